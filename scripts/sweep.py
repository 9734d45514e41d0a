"""Search the best settings of a model: the command ``cifar-lab sweep``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
