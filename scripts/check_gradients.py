"""Check the gradients written by hand: ``cifar-lab check-gradients``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["check-gradients", *sys.argv[1:]]))
