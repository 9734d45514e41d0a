"""Image files of any kind as model input; data/pixels.py describes the conversion."""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar_lab.data.pictures import counts, formats, is_picture, left_out, printable, unread
from cifar_lab.data.pixels import as_cifar
from cifar_lab.data.progress import Report, print_line
from cifar_lab.errors import UserError

# 8192×8192 pixels take about 1 GiB during the conversion. Pillow warns from 89 million on.
MAX_PIXELS = 2**26


def find_images(paths: Iterable[str | Path], report: Report = print_line) -> list[Path]:
    """Return the given files, and all pictures in the given folders, sorted by path in each folder.

    Folders are searched to any depth; links to folders are not followed. Files that are not named
    as pictures are left out and passed to ``report`` in one line, except hidden files. A folder
    without pictures, or one that cannot be read, is returned itself, so that ``read_image`` raises
    the error for it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        others: list[Path] = []
        inside = sorted(_walk(path, others)) if os.path.isdir(path) else []  # False if invalid
        found += inside or [path]
        if others:
            report(left_out(path, sorted(others), "not named as pictures are, or links to folders"))
    return found


def _walk(folder: Path, others: list[Path]) -> Iterator[Path]:
    """Yield the pictures in a folder, and what cannot be read; collect the rest in ``others``."""
    failed: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=failed.append):
        folders[:] = filter(counts, folders)
        others += (path for name in folders if (path := Path(root, name)).is_symlink())
        for path in (Path(root, name) for name in names if counts(name)):
            if is_picture(path.name):
                yield path
            else:
                others.append(path)
    yield from (Path(error.filename) for error in failed)


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
        raise UserError(f"{printable(path)}: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return unread(path)
    if isinstance(error, Image.DecompressionBombError):  # raised by Pillow for far more pixels
        return f"more than {MAX_PIXELS:,} pixels; make it smaller"
    text = getattr(error, "strerror", None) or str(error)
    return f"cannot be read ({' '.join(text.split())})"


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
