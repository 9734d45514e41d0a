"""Kills a run again and again, resumes it, and compares it with one never killed; ``--help``."""

import sys

from cifar_lab.soak.command import main

if __name__ == "__main__":
    sys.exit(main())
