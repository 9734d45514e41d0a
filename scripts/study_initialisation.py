"""Compare two initialisations: ``cifar-lab study-initialisation``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["study-initialisation", *sys.argv[1:]]))
