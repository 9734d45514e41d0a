"""Conversion of any image to the models' input, uint8 (3, 32, 32), RGB.

Training and prediction share these steps:

1. The first frame or page is taken, and turned upright according to its EXIF orientation.
2. It is cropped to the largest square in its middle.
3. 16-bit grey is scaled by 1/257; 32-bit grey from its smallest to its largest value.
4. It is converted to RGB. Colour profiles are ignored.
5. It is resized to 32×32 pixels by bicubic interpolation with antialiasing.
6. Transparent parts become white.

An RGB image of 32×32 pixels stays unchanged.
"""

import contextlib
import struct

import numpy as np
from PIL import Image, ImageOps

from cifar_lab.data.image_set import IMAGE_SHAPE


def as_cifar(image: Image.Image) -> np.ndarray:
    """Convert an image by the steps above, and return uint8 (3, 32, 32), RGB.

    Pillow raises errors of any type for damaged files.
    """
    # Older versions of Pillow open a 16-bit PNG in a 32-bit mode.
    sixteen_bits = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
    image.load()  # damaged pixels are an error, unlike the damaged metadata below
    with contextlib.suppress(SyntaxError, ValueError, TypeError, KeyError, struct.error):
        image = ImageOps.exif_transpose(image)
    image = _square(image)
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image, sixteen_bits)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    size = IMAGE_SHAPE[:0:-1]  # width, height
    image = image.resize(size, Image.Resampling.BICUBIC)  # colours are weighted by their alpha
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", size, "white"), image).convert("RGB")
    return np.asarray(image).transpose(2, 0, 1)


def _square(image: Image.Image) -> Image.Image:
    """Return the largest square in the middle."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _eight_bits(image: Image.Image, sixteen_bits: bool) -> Image.Image:
    """Scale 16-bit or 32-bit grey. Pillow's own conversion would clip all values above 255."""
    values: np.ndarray = np.asarray(image, dtype=np.float64)
    transparent = values == image.info.get("transparency", np.nan)  # a grey value, in PNG
    if sixteen_bits:
        values = values / 257
    else:
        low, high = values.min(), values.max()
        if not np.isfinite(high - low):
            raise ValueError("values that are not finite")
        values = (values - low) / ((high - low) or 1) * 255
    values[transparent] = 255  # white
    return Image.fromarray(values.round().astype(np.uint8))
