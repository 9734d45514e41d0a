"""The decoded form of an image tree or of the archive, kept in the user's cache folder.

One uncompressed ``.npz`` file a source. It is used only while its key, made from every file's path,
size and modification time, is that of the source; NumPy reads it without unpickling, and the zip
format's checksums tell a damaged one. A cache that cannot be read, or does not hold what it should,
is a cache that is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.files import check_file

FORMAT = 2  # raised when what is stored changes; older files are rebuilt
PART_SECONDS = 3600  # after which nobody writes a file any more
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")  # of ImageSet


def cache_folder() -> Path:
    """``$CIFAR_LAB_CACHE``, else ``cifar_lab`` in the platform's folder for caches."""
    try:
        return _cache_folder()
    except RuntimeError:  # this user has no home; nothing can be stored there
        return Path(os.devnull)


def _cache_folder() -> Path:
    if override := os.environ.get("CIFAR_LAB_CACHE"):
        return Path(override).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cifar_lab"


def cache_path(source: Path) -> Path:
    """Where the source at this path is kept; a changed one replaces its older form there."""
    name = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:16]
    return cache_folder() / "decoded" / f"{name}.npz"


def load(path: Path, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and the facts stored under ``key``, or None where there are none to be had.

    Among the facts is ``class_names``, a list of text that every label points into.
    """
    try:
        _check_unpacked_size(path)
        with np.load(path, allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes())
            if facts["format"] != FORMAT or facts["key"] != key:
                return None
            arrays = {name: stored[name] for name in ARRAYS}
        _check(arrays, facts["class_names"])
    except Exception:  # what a damaged file makes zipfile and NumPy raise is of every kind
        return None
    return arrays, facts


def _check_unpacked_size(path: Path) -> None:
    """Refuses what would take more memory than the file has bytes: nothing here is compressed."""
    size = check_file(path, limit=sys.maxsize)
    with zipfile.ZipFile(path) as stored:
        if sum(entry.file_size for entry in stored.infolist()) > size:
            raise ValueError("larger inside than outside")


def _check(arrays: dict[str, np.ndarray], class_names: list[str]) -> None:
    """Refuses arrays that are not those of an ImageSet with these classes."""
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if (images.dtype, labels.dtype) != (np.uint8, np.int64):
            raise TypeError("not images and labels")
        if images.shape != (len(labels), *IMAGE_SHAPE) or labels.ndim != 1:
            raise ValueError("not as many images as labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
            raise ValueError("labels of no class")
    if not all(isinstance(name, str) for name in class_names):
        raise TypeError("class names that are no text")


def store(path: Path, key: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> bool:
    """Writes a cache file whole or not at all; False where the folder cannot be written."""
    text = json.dumps({**facts, "format": FORMAT, "key": key})
    part = path.with_name(f"{uuid.uuid4().hex}.tmp")  # readable for those who share the folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_old_parts(path.parent)
        with part.open("xb") as file:
            stored = {"facts": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
            np.savez(file, **stored)  # type: ignore[arg-type]  # a bool is meant for another
        os.replace(part, path)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return True


def _remove_old_parts(folder: Path) -> None:
    """Removes what processes left that were killed while they wrote."""
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > PART_SECONDS:
                path.unlink()
