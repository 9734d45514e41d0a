"""Checks the gradients that are written by hand: a table, and exit status 1 if one is wrong."""

import sys

from cifar_lab.gradient_check.command import main

if __name__ == "__main__":
    sys.exit(main())
