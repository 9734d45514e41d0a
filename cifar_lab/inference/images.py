"""Image files of any kind as input of the models; data/pixels.py describes the conversion."""

import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar_lab.data.pixels import as_cifar
from cifar_lab.errors import UserError

# 8192×8192 pixels take about 1 GiB during the conversion. Pillow warns from 89 million on.
MAX_PIXELS = 2**26
# Formats that are not read: PostScript would start another program, icons are decoded before their
# size is known, and the others are not pictures or need a handler that is not installed.
EXCLUDED = {"BUFR", "EPS", "GRIB", "HDF5", "ICNS", "ICO", "MPEG", "WMF"}


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Return the given files, and all images in the given folders, sorted by path in each folder.

    Folders are searched to any depth for the suffixes of ``formats``. Hidden files and folders are
    left out, and links to folders are not followed. A folder without images, or one that cannot be
    read, is returned itself, so that ``read_image`` reports what is wrong with it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(_walk(path)) if os.path.isdir(path) else []  # False for an invalid path
        found += inside or [path]
    return found


def _walk(folder: Path) -> Iterator[Path]:
    suffixes = tuple(
        suffix for suffix, name in Image.registered_extensions().items() if name in formats()
    )
    unread: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(root, name)
    yield from (Path(error.filename) for error in unread)


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that are read: those of Pillow without ``EXCLUDED``."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - EXCLUDED))


def read_image(path: str | Path) -> np.ndarray:
    """Return an image of any size, mode and format as uint8 (3, 32, 32), RGB; see data/pixels.py.

    Raises:
        UserError: The file is missing, is not an image, is damaged, or has more than ``MAX_PIXELS``
            pixels, which is checked before they are decoded.
    """
    path = Path(path)
    try:
        _check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata and size; damaged pixels raise errors
            with Image.open(path, formats=formats()) as image:
                _check_size(image)
                return as_cifar(image)
    except Exception as error:  # the decoders raise errors of any type for damaged files
        raise UserError(f"{printable(path)}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):  # raised by Pillow for far more pixels
        return f"more than {MAX_PIXELS:,} pixels; make it smaller"
    text = getattr(error, "strerror", None) or str(error)
    return f"cannot be read ({' '.join(text.split())})"


def printable(path: str | Path) -> str:
    """Return a path on one line, even if its name has unprintable characters."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _check_file(path: Path) -> None:
    if path.is_dir():
        os.listdir(path)  # raises an error if it cannot be read
        raise UserError("no images in this folder")
    if not path.exists():
        raise UserError("no such file")
    if not path.is_file():  # opening a pipe would block
        raise UserError("not a file")


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width:,}×{image.height:,} pixels"
        raise UserError(f"{size}, more than {MAX_PIXELS:,}; make it smaller")
