"""Compares the speed of this package with plain loops; see ``--help``."""

import sys

from cifar_lab.benchmark.command import main

if __name__ == "__main__":
    sys.exit(main())
