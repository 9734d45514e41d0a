"""Export a trained model: the command ``cifar-lab export``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
