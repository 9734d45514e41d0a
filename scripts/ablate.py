"""Measures what each part of a fast recipe is worth; see ``--help``."""

import sys

from cifar_lab.studies.ablate_command import main

if __name__ == "__main__":
    sys.exit(main())
