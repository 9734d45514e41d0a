"""``python -m cifar_lab`` is the command ``cifar-lab``."""

import sys

from cifar_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
