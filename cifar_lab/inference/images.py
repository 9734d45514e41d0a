"""Any image as the models take it: uint8 (3, 32, 32), RGB.

What happens to one, in this order:

1. the first frame or page is taken, and turned upright as its EXIF orientation says;
2. it is cropped to the largest square in its middle;
3. 16-bit grey is scaled by 1/257, floating-point grey from its smallest to its largest value;
4. it becomes RGB; colour profiles are ignored;
5. it is resized to 32×32, bicubic with antialiasing;
6. transparent parts are laid over white.

An RGB image of 32×32 pixels comes out untouched.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError

# 8192×8192, which takes about 1 GiB while it is converted; Pillow warns from 89 million on.
MAX_PIXELS = 2**26
# Formats that Pillow lists but cannot decode by itself: PostScript would start another program,
# icons are decoded before their size is known, the others are not pictures, or need a handler that
# nothing installs.
EXCLUDED = {"BUFR", "EPS", "GRIB", "HDF5", "ICNS", "ICO", "MPEG", "WMF"}


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are given, and all images of folders, in the order of their paths.

    Folders are searched to any depth for the suffixes of ``formats``; hidden files and folders are
    left out. A folder without images stands for itself, so that reading it says what is wrong.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(_walk(path)) if os.path.isdir(path) else []  # False for what fails
        found += inside or [path]
    return found


def _walk(folder: Path) -> Iterator[Path]:
    suffixes = tuple(
        suffix for suffix, name in Image.registered_extensions().items() if name in formats()
    )
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(root, name)


@cache
def formats() -> tuple[str, ...]:
    """The names of the formats that are read: Pillow's, without ``EXCLUDED``."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - EXCLUDED))


def read_image(path: str | Path) -> np.ndarray:
    """One image file of any size, mode and format as uint8 (3, 32, 32), RGB; see the module.

    Raises:
        UserError: there is no such file, it is no image or a damaged one, or it has more than
            ``MAX_PIXELS`` pixels, which is seen before they are decoded.
    """
    path = Path(path)
    try:
        _check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata and size; damaged pixels raise
            with Image.open(path, formats=formats()) as image:
                _check_size(image)
                return np.asarray(_as_cifar(image)).transpose(2, 0, 1)
    except Image.DecompressionBombError as error:  # far above; raised by Pillow
        reason = f"more than {MAX_PIXELS:,} pixels; make it smaller"
        raise UserError(f"{printable(path)}: {reason}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{printable(path)}: not an image that Pillow reads") from error
    except UserError as error:
        raise UserError(f"{printable(path)}: {error}") from error
    except Exception as error:  # the decoders of damaged files raise errors of every kind
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"{printable(path)}: cannot be read ({reason})") from error


def printable(path: str | Path) -> str:
    """A path on one line, whatever characters are in its name."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _check_file(path: Path) -> None:
    if path.is_dir():
        os.listdir(path)  # tells where it may not be read
        raise UserError("no images in this folder")
    if not path.exists():
        raise UserError("no such file")
    if not path.is_file():  # a pipe would be waited for
        raise UserError("not a file")


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{image.width:,}×{image.height:,} pixels, more than {MAX_PIXELS:,}; make it smaller"
        )


def _as_cifar(image: Image.Image) -> Image.Image:
    """The steps of the module's docstring."""
    image = _square(ImageOps.exif_transpose(image))
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    size = IMAGE_SHAPE[:0:-1]  # width, height
    image = image.resize(size, Image.Resampling.BICUBIC)  # weighs colours by their alpha
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", size, "white"), image).convert("RGB")
    return image


def _square(image: Image.Image) -> Image.Image:
    """The largest square in the middle."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, of which Pillow's own conversion would cut off all above 255, or floats."""
    values: np.ndarray = np.asarray(image, dtype=np.float32)
    if image.mode == "F":
        low, high = values.min(), values.max()
        if not np.isfinite(high - low):
            raise ValueError("values that are not finite")
        values = (values - low) / ((high - low) or 1) * 255
    else:
        values = values.clip(0, 65535) / 257
    return Image.fromarray(values.round().astype(np.uint8))
