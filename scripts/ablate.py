"""Measure the parts of a fast recipe: the command ``cifar-lab ablate``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["ablate", *sys.argv[1:]]))
