"""Train and compare the systems of the report: the command ``cifar-lab report``; see ``--help``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
