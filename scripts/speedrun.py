"""Measures what accuracy a recipe reaches in what time; see ``--help``."""

import sys

from cifar_lab.studies.speedrun_command import main

if __name__ == "__main__":
    sys.exit(main())
