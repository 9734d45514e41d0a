"""Evaluates a checkpoint: accuracy, loss, calibration and confusion; see ``--help``."""

import sys

from cifar_lab.inference.evaluate_command import main

if __name__ == "__main__":
    sys.exit(main())
