"""Measures how the initialisation of the report's MLP decides its accuracy; see ``--help``."""

import sys

from cifar_lab.studies.command import main

if __name__ == "__main__":
    sys.exit(main())
