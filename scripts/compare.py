"""Compare groups of runs: the command ``cifar-lab compare``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
