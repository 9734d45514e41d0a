"""Decoded images of an image tree, kept in the user's cache folder.

There is one uncompressed ``.npz`` file for each tree. It is used only if its key matches that of
the tree, which depends on the path, size and modification time of every file. NumPy reads the cache
without unpickling, and the checksums of the zip format reveal damage. A cache that cannot be read
is treated as a missing one.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.files import check_file, check_local, make_folder, new_file

FORMAT = 2  # raise it when the stored content changes, so that older files are rebuilt
PART_SECONDS = 3600  # no process still writes to a temporary file of this age
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")  # fields of ImageSet


def cache_folder() -> Path:
    """Return ``$CIFAR_LAB_CACHE``, else ``cifar_lab`` in the platform's folder for caches."""
    try:
        if override := os.environ.get("CIFAR_LAB_CACHE"):
            check_local(override, "$CIFAR_LAB_CACHE")
            return Path(override).expanduser()
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return base / "cifar_lab"
    except RuntimeError:  # this user has no home folder, so nothing can be stored
        return Path(os.devnull)


def cache_path(source: Path) -> Path:
    """Return the path of a source's cache file, which stays the same if the source changes."""
    name = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:16]
    return cache_folder() / "decoded" / f"{name}.npz"


def load(source: Path, key: str) -> dict[str, np.ndarray] | None:
    """Return the arrays stored for a source under ``key``, or None if there are none.

    In a cache that several users share, a file is read only if it belongs to this user, to root, or
    to the owner of the source, who could alter the source as well.
    """
    try:
        path = cache_path(source)
        check_file(path, limit=sys.maxsize)  # opening a pipe would not end
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            trusted = {0, source.stat().st_uid, getattr(os, "geteuid", lambda: 0)()}
            facts = json.loads(stored["facts"].tobytes())
            if os.fstat(file.fileno()).st_uid not in trusted:
                return None
            if facts["format"] != FORMAT or facts["key"] != key:
                return None
            arrays = {name: stored[name] for name in ARRAYS}
        for split in ("train", "test"):  # with a damaged shape, no checksum is compared
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            if images.shape != (len(labels), *IMAGE_SHAPE) or labels.dtype != np.int64:
                return None
    except Exception:  # zipfile and NumPy raise errors of any type for a damaged file
        return None
    return arrays


def store(source: Path, key: str, arrays: dict[str, np.ndarray]) -> bool:
    """Write a complete cache file or none. Return False if the folder cannot be written to."""
    path, text = cache_path(source), json.dumps({"format": FORMAT, "key": key})
    stored = {"facts": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
    try:
        make_folder(path.parent)
        _remove_old_parts(path.parent)
        with new_file(path) as file:  # readable by everyone who shares the folder
            np.savez(file, **stored)  # type: ignore[arg-type]  # of another keyword
    except OSError:
        return False
    return True


def _remove_old_parts(folder: Path) -> None:
    """Remove temporary files of processes that were killed while writing."""
    for path in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > PART_SECONDS:
                path.unlink()
