"""Trains a model on CIFAR-10: ``python scripts/fit.py --model cnn``; ``--help`` lists the flags."""

import sys

from cifar_lab.cli import fit

if __name__ == "__main__":
    sys.exit(fit())
