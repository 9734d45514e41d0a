"""Reproduces the lab report: systems, figures, table; see ``--help``."""

import sys

from cifar_lab.report.command import main

if __name__ == "__main__":
    sys.exit(main())
