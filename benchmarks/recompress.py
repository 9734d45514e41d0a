"""Compress a copy of CIFAR-10 once more, to estimate what its first compression costs.

``python benchmarks/recompress.py cifar10-jpeg cifar10-jpeg-twice`` writes PNG files of the images
after another JPEG compression with subsampled chroma, and prints the PSNR to the first copy. With
a quality of 65 it is 30.5 dB, like that of the first copy to the original images. The blocks of
8×8 pixels lie 4 pixels aside: on the same blocks, JPEG finds what it has rounded before, and
another compression of the same quality changes next to nothing.
"""

import argparse
import io
from math import log10
from pathlib import Path

import numpy as np
from PIL import Image

ASIDE = 4  # pixels


def main() -> None:
    """Write the copy."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder of train/<class>/ and test/<class>/")
    parser.add_argument("target", type=Path, help="folder to write, which must not exist")
    parser.add_argument("--quality", type=int, default=65, help="quality of JPEG, 1 to 95")
    options = parser.parse_args()
    paths = sorted(options.source.glob("*/*/*.*"))
    if not paths:
        parser.error(f"{options.source}: no images in train/<class>/ and test/<class>/")
    if options.target.exists():
        parser.error(f"{options.target}: exists already")
    errors = []
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        again = compress(image, options.quality)
        errors.append(np.square(again.astype(float) - image).mean())
        copy = options.target / path.relative_to(options.source).with_suffix(".png")
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(again).save(copy)
    print(f"{len(errors):,} images, PSNR {10 * log10(255**2 / np.mean(errors)):.2f} dB")


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image, uint8 (H, W, 3), after a JPEG compression on blocks that lie aside."""
    padded = np.pad(image, ((ASIDE, ASIDE), (ASIDE, ASIDE), (0, 0)), mode="reflect")
    file = io.BytesIO()
    Image.fromarray(padded).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file).convert("RGB"))[ASIDE:-ASIDE, ASIDE:-ASIDE]


if __name__ == "__main__":
    main()
