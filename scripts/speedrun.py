"""Measure accuracy against training time: the command ``cifar-lab speedrun``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["speedrun", *sys.argv[1:]]))
