"""Classify image files: the command ``cifar-lab predict``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
