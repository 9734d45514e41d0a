"""List the runs of a folder: the command ``cifar-lab runs``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["runs", *sys.argv[1:]]))
