"""The original files of CIFAR-10, "python version": the archive or the folder extracted from it.

Each file is a pickle, and a pickle can run code. So nothing is unpickled or unpacked before its MD5
matches the original. MD5 is enough for this: two files with the same MD5 can be constructed, but no
way is known to construct a file with a given MD5. The archive is read in memory, which takes
seconds, so its files are kept in the cache.

Source: https://www.cs.toronto.edu/~kriz/cifar.html. The checksums of the files are those of
``torchvision.datasets.CIFAR10`` (a test compares them).
"""

import contextlib
import gzip
import io
import pickle
import shlex
import tarfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.data import cache
from cifar_lab.data.download import ARCHIVE_MD5, ARCHIVE_NAME, ARCHIVE_SIZE, md5
from cifar_lab.data.image_set import IMAGE_SHAPE, ImageSet
from cifar_lab.errors import UserError
from cifar_lab.files import make_folder, read_file, write_atomically

FOLDER_NAME = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE = "test_batch"
META_FILE = "batches.meta"
CHECKSUMS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
FILE_LIMIT = 2**25  # bytes; a batch has 31,035,704

Content = tuple[dict[str, Any], tuple[str, ...]]  # fields of ImageSet, and class names


def read_folder(folder: Path) -> ImageSet:
    """Read the extracted folder ``cifar-10-batches-py``.

    Raises:
        UserError: A file is missing or is not the original one.
    """
    arrays, class_names = _collect(partial(_read, folder))
    return ImageSet(**arrays, class_names=class_names, source="cifar10", location=str(folder))


def read_archive(archive: Path) -> ImageSet:
    """Read ``cifar-10-python.tar.gz``, which must be the original.

    Its files are kept in the cache, and verified there each time, since others may write to it.
    """
    kept, content = cache.cache_folder() / FOLDER_NAME, None
    if archive.stat().st_size == ARCHIVE_SIZE:
        with contextlib.suppress(UserError, OSError):
            content = _collect(partial(_read, kept))
    arrays, class_names = content or _unpack(archive, kept)
    return ImageSet(**arrays, class_names=class_names, source="cifar10", location=str(archive))


def _read(folder: Path, name: str) -> bytes:
    # The whole folder must be removed, since the archive is used only without it.
    return _verified(folder / name, FILE_LIMIT, CHECKSUMS[name], remove=folder)


def _unpack(archive: Path, kept: Path) -> Content:
    """Read the files in the archive, and keep them in a folder if it is writable."""
    content = _verified(archive, ARCHIVE_SIZE, ARCHIVE_MD5, remove=archive)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as tar:

        def read(name: str) -> bytes:
            found = tar.extractfile(f"{FOLDER_NAME}/{name}").read()  # type: ignore[union-attr]
            with contextlib.suppress(OSError):
                make_folder(kept)
                write_atomically(kept / name, found)
            return found

        return _collect(read)


def _verified(path: Path, limit: int, expected: str, remove: Path) -> bytes:
    """Return the content of a file with the expected MD5; otherwise say what to remove."""
    try:
        content = read_file(path, limit)
    except FileNotFoundError:
        raise UserError(
            f"{path}: missing; expected all of {', '.join(CHECKSUMS)}.\n" + _repair(remove)
        ) from None
    found = md5(content)
    if found != expected:
        raise UserError(
            f"{path}: {len(content):,} bytes with MD5 {found}, expected {expected}; "
            "the file is truncated or altered.\n" + _repair(remove)
        )
    return content


def _repair(damaged: Path) -> str:
    if damaged.is_file() and damaged.name != ARCHIVE_NAME:
        return f"If it is not CIFAR-10's archive, {ARCHIVE_NAME}, name a folder instead."
    own = damaged.name == FOLDER_NAME or damaged.is_file()  # holds nothing but CIFAR-10
    paths = [damaged] if own else [damaged / name for name in CHECKSUMS]
    command = shlex.join(["rm", "-rf", *map(str, paths)])
    if not own:
        return f"Remove CIFAR-10's files, and name another folder for a download: {command}"
    return f"Remove it, and CIFAR-10 is taken from its archive or downloaded: {command}"


def _collect(read: Callable[[str], bytes]) -> Content:
    """Return the content of all files; ``read`` returns the verified content of one."""
    class_names = tuple(name.decode() for name in _unpickle(read(META_FILE))[b"label_names"])
    batches = [_unpickle(read(name)) for name in (*TRAIN_FILES, TEST_FILE)]
    images = [batch[b"data"].reshape(-1, *IMAGE_SHAPE) for batch in batches]
    labels = [np.array(batch[b"labels"], dtype=np.int64) for batch in batches]
    arrays = {
        "train_images": np.concatenate(images[:-1]),
        "train_labels": np.concatenate(labels[:-1]),
        "test_images": images[-1],
        "test_labels": labels[-1],
    }
    return arrays, class_names


def _unpickle(content: bytes) -> dict[bytes, Any]:
    """Unpickle a verified file, which Python 2 wrote; its strings become bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2.4.0 to 2.4.4: Python 2 wrote flags as integers
        return pickle.loads(content, encoding="bytes")
