"""Exports a trained model, to ONNX and for torch: ``python scripts/export.py CKPT``."""

import sys

from cifar_lab.inference.export_command import main

if __name__ == "__main__":
    sys.exit(main())
