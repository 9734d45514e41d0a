"""Which files in a folder are pictures, which pictures are read, and which files are ignored.

A file counts as a picture by its suffix. If its format is not read, an error says what to do.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image

# Formats that are not read: PostScript would start another program, icons are decoded before their
# size is known, and the others are no pictures or need a handler that is not installed.
EXCLUDED = {"BUFR", "EPS", "GRIB", "HDF5", "ICNS", "ICO", "MPEG", "WMF"}
# Suffixes of pictures that are not read, or only by some versions of Pillow.
UNREAD = (".heic", ".heif", ".hif", ".avif", ".jxl", ".svg", ".eps", ".ico", ".dng", ".cr2", ".nef")
# Brands in the container of HEIC and AVIF files, which phones sometimes name ".jpg".
BRANDS = (b"hei", b"hev", b"mif", b"msf", b"avi")
# Files and folders that systems and archives leave behind, apart from hidden ones.
LEAVINGS = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "lost+found")
MOST_NAMES = 5  # names in a message


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that are read: those of Pillow without ``EXCLUDED``."""
    Image.init()
    first = ("PNG", "JPEG")  # they are tried in this order
    return (*first, *sorted(Image.OPEN.keys() - EXCLUDED - set(first)))


@cache
def suffixes() -> tuple[str, ...]:
    """Return the suffixes of pictures, in lower case."""
    read = [suffix for suffix, name in Image.registered_extensions().items() if name in formats()]
    return (*read, *UNREAD)


def is_picture(name: str) -> bool:
    """Return whether a file is a picture by its suffix."""
    return name.lower().endswith(suffixes())


def counts(name: str) -> bool:
    """Return whether a file or folder is neither hidden nor left behind by the system."""
    return not name.startswith(".") and name.lower() not in LEAVINGS


def unread(path: Path) -> str:
    """Return the message about a file that Pillow does not recognize."""
    with path.open("rb") as file:
        start = file.read(11)
    kind = path.suffix[1:].upper() if path.name.lower().endswith(UNREAD) else ""
    if start[4:8] == b"ftyp" and start[8:11] in BRANDS:
        kind = kind or "HEIC or AVIF"
    hint = f" ({kind}); convert it to JPEG or PNG" if kind else ""
    return f"not an image that Pillow reads{hint}"


def printable(path: str | Path) -> str:
    """Return a path on one line, even if its name has unprintable characters."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def listed(names: Sequence[str]) -> str:
    """Return the first few names on one line."""
    more = len(names) - MOST_NAMES
    told = ", ".join(map(printable, names[:MOST_NAMES]))
    return f"{told} and {more:,} more" if more > 0 else told


def left_out(folder: Path, paths: Sequence[str | Path], why: str) -> str:
    """Return a message about the files in a folder that are not read."""
    names = listed([os.path.relpath(path, folder) for path in paths])
    return f"{printable(folder)}: left out: {names} ({why})"
