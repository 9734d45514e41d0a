"""Any image as the models take it, in training and in prediction: uint8 (3, 32, 32), RGB.

What happens to one, in this order:

1. the first frame or page is taken, and turned upright as its EXIF orientation says;
2. it is cropped to the largest square in its middle;
3. 16-bit grey is scaled by 1/257, 32-bit grey from its smallest to its largest value;
4. it becomes RGB; colour profiles are ignored;
5. it is resized to 32×32, bicubic with antialiasing;
6. transparent parts are laid over white.

An RGB image of 32×32 pixels comes out untouched.
"""

from __future__ import annotations

import contextlib
import struct

import numpy as np
from PIL import Image, ImageOps

from cifar_lab.data.image_set import IMAGE_SHAPE


def as_cifar(image: Image.Image) -> np.ndarray:
    """The steps of the module's docstring; gives uint8 (3, 32, 32), RGB.

    Raises:
        ValueError: 32-bit grey with values that are not finite; Pillow's errors of every
            kind for files that are damaged.
    """
    # Older versions of Pillow open a PNG of 16 bits as one of 32.
    sixteen_bits = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
    image.load()  # damaged pixels are an error, damaged metadata below are none
    with contextlib.suppress(SyntaxError, ValueError, TypeError, KeyError, struct.error):
        image = ImageOps.exif_transpose(image)
    image = _square(image)
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image, sixteen_bits)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    size = IMAGE_SHAPE[:0:-1]  # width, height
    image = image.resize(size, Image.Resampling.BICUBIC)  # weighs colours by their alpha
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", size, "white"), image).convert("RGB")
    return np.asarray(image).transpose(2, 0, 1)


def _square(image: Image.Image) -> Image.Image:
    """The largest square in the middle."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _eight_bits(image: Image.Image, sixteen_bits: bool) -> Image.Image:
    """Grey of 16 or 32 bits, of which Pillow's own conversion would cut off all above 255."""
    values: np.ndarray = np.asarray(image, dtype=np.float64)
    transparent = values == image.info.get("transparency", np.nan)  # a grey, in PNG
    if sixteen_bits:
        values = values / 257
    else:
        low, high = values.min(), values.max()
        if not np.isfinite(high - low):
            raise ValueError("values that are not finite")
        values = (values - low) / ((high - low) or 1) * 255
    values[transparent] = 255  # white
    return Image.fromarray(values.round().astype(np.uint8))
