"""Draw the curves of runs: the command ``cifar-lab plot``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["plot", *sys.argv[1:]]))
