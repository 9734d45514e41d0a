"""Write stubs of layers to fill in: ``cifar-lab exercise``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["exercise", *sys.argv[1:]]))
