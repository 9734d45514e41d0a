"""Says what a trained model sees in image files: ``python scripts/predict.py CKPT IMAGE …``."""

import sys

from cifar_lab.inference.predict_command import main

if __name__ == "__main__":
    sys.exit(main())
