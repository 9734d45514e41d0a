"""Any image file as the models take it; data/pixels.py says what happens to its pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar_lab.data.pixels import as_cifar
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
    left out, and links to folders are not followed. A folder without images, or one that may not be
    read, stands for itself, so that reading it says what is wrong.
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
    unread: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(root, name)
    yield from (Path(error.filename) for error in unread)


@cache
def formats() -> tuple[str, ...]:
    """The names of the formats that are read: Pillow's, without ``EXCLUDED``."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - EXCLUDED))


def read_image(path: str | Path) -> np.ndarray:
    """One image file of any size, mode and format as uint8 (3, 32, 32), RGB; see data/pixels.py.

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
                return as_cifar(image)
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
