"""Train a model: the command ``cifar-lab fit``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["fit", *sys.argv[1:]]))
