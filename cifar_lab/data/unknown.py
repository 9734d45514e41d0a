"""The error for a folder without usable data: what it holds instead, and what to do."""

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from cifar_lab.data.download import ARCHIVE_NAME
from cifar_lab.data.folder import SPLITS, VALIDATION
from cifar_lab.data.pictures import counts, listed, printable
from cifar_lab.errors import UserError

DEPTH = 2  # levels below a folder that are searched
IMAGE_FOLDERS = "write its images to train/<class>/ and test/<class>/"
PYTHON_VERSION = f"put {ARCHIVE_NAME} there, or name an empty folder to have it downloaded"
# Patterns of names in lower case, what they are, and what to do. The first match is reported.
KNOWN: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("cifar-100*",), "CIFAR-100", IMAGE_FOLDERS),
    (("cifar-10-*bin*", "data_batch_*.bin"), "CIFAR-10's binary version", PYTHON_VERSION),
    (("cifar-10-*mat*", "data_batch_*.mat"), "CIFAR-10's Matlab version", PYTHON_VERSION),
    (("*.parquet", "*.arrow", "*.tfrecord*"), "a table of images", IMAGE_FOLDERS),
    (("*.npy", "*.npz"), "an array", "name its folder to cifar-lab evaluate"),
    (("*.zip", "*.tar", "*.tgz", "*.tar.*z", "*.7z", "*.rar"), "an archive", "unpack it"),
)


def levels(folder: Path) -> Iterator[list[Path]]:
    """Yield the paths at each level: the folder, its entries, and the entries of its subfolders."""
    level = [folder]
    yield level
    for _ in range(DEPTH):
        level = [path for above in level for path in _inside(above)]
        yield level


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if counts(path.name))
    except OSError:  # not a folder, or one that may not be entered
        return []


def is_unused(folder: Path) -> bool:
    """Return whether a folder is missing, or holds only files of an unfinished download."""
    if not folder.is_dir():
        return not folder.exists()
    names = (name for _, _, names in os.walk(folder) for name in names)
    return not any(counts(name) and not name.startswith(ARCHIVE_NAME) for name in names)


def what_is_there(folder: Path, expected: str) -> UserError:
    """Return the error for a folder that was given and has no usable data."""
    inside = [
        path
        for level in levels(folder)
        for path in level
        if not path.name.startswith(ARCHIVE_NAME)  # which is read, or unfinished
    ]
    for patterns, what, advice in KNOWN:
        for path in inside:
            if any(fnmatch(path.name.lower(), pattern) for pattern in patterns):
                return UserError(f"{printable(path)}: {what} is not read here; {advice}")
    if folder.name in (*SPLITS, *VALIDATION):
        return UserError(
            f"{printable(folder)}: a part of the data; name {printable(folder.parent)}"
        )
    found = listed([path.name for path in _inside(folder)])
    told = f"{printable(folder)}: no CIFAR-10 here{f' (found: {found})' if found else ''}"
    return UserError(f"{told}; expected {expected}. CIFAR-10 is downloaded into an empty folder.")
