"""The original files of CIFAR-10, "python version": the archive or the folder extracted from it.

Each file is a pickle, and a pickle can run code; so its checksum is verified first, and it is then
read by an unpickler that knows nothing but NumPy arrays. The archive is read in memory: nothing is
extracted, so nothing can be written outside a folder. That takes seconds, so what it holds is kept
in the cache (cache.py).

Source: https://www.cs.toronto.edu/~kriz/cifar.html; the checksums of the files are those that
``torchvision.datasets.CIFAR10`` holds (a test compares them).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.data import cache
from cifar_lab.data.download import ARCHIVE_MD5, ARCHIVE_NAME
from cifar_lab.data.image_set import IMAGE_SHAPE, ImageSet
from cifar_lab.errors import UserError

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

Content = tuple[dict[str, np.ndarray], tuple[str, ...]]


def read_folder(folder: Path) -> ImageSet:
    """Reads the extracted folder ``cifar-10-batches-py``.

    Raises:
        UserError: a file is missing or is not the original one.
    """
    arrays, class_names = _collect(lambda name: _verified(folder / name))
    return ImageSet(**arrays, class_names=class_names, source="cifar10", location=str(folder))


def read_archive(archive: Path) -> ImageSet:
    """Reads ``cifar-10-python.tar.gz`` without extracting it; once, and then from the cache.

    Raises:
        UserError: the archive is not the original one.
    """
    stat = archive.stat()
    path = cache.cache_path(archive)
    key = f"{ARCHIVE_MD5} {stat.st_size} {stat.st_mtime_ns}"
    found = cache.load(path, key)
    if found is not None:
        arrays, class_names = found[0], tuple(found[1]["class_names"])
    else:
        arrays, class_names = _unpack(archive)
        cache.store(path, key, arrays, {"class_names": class_names})
    return ImageSet(**arrays, class_names=class_names, source="cifar10", location=str(archive))


def _unpack(archive: Path) -> Content:
    content = _read(archive)
    _check(content, ARCHIVE_MD5, archive)
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as tar:
            return _collect(lambda name: _member(tar, f"{FOLDER_NAME}/{name}"))
    except (tarfile.TarError, OSError, EOFError, zlib.error, KeyError) as error:
        raise UserError(f"{archive}: not a readable {ARCHIVE_NAME} ({error})") from error


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def _verified(path: Path) -> bytes:
    content = _read(path)
    _check(content, CHECKSUMS[path.name], path)
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{path}: missing; expected all of {', '.join(CHECKSUMS)}.\n"
            f"Remove the folder, and CIFAR-10 is downloaded anew, or extract {ARCHIVE_NAME} again."
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _check(content: bytes, expected: str, path: Path) -> None:
    found = md5(content)
    if found != expected:
        raise UserError(
            f"{path}: {len(content):,} bytes with MD5 {found}, expected {expected}; "
            "the file is truncated or altered.\n"
            f"Remove it (rm -r '{path}'), and it is downloaded again."
        )


def md5(content: bytes) -> str:
    """The checksum of a file's content: against accidents, not against an attacker."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _collect(read: Callable[[str], bytes]) -> Content:
    """Puts the batches together, one at a time: arrays by ImageSet's fields, and class names."""
    class_names = tuple(name.decode() for name in _unpickle(read(META_FILE))[b"label_names"])
    train = [_batch(read(name)) for name in TRAIN_FILES]
    test_images, test_labels = _batch(read(TEST_FILE))
    arrays = {
        "train_images": np.concatenate([images for images, _ in train]),
        "train_labels": np.concatenate([labels for _, labels in train]),
        "test_images": test_images,
        "test_labels": test_labels,
    }
    return arrays, class_names


def _batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _unpickle(content)
    images = batch[b"data"].reshape(-1, *IMAGE_SHAPE)
    return images, np.asarray(batch[b"labels"], dtype=np.int64)


def _unpickle(content: bytes) -> dict[bytes, Any]:
    # Python 2 wrote the originals; its strings are our bytes.
    return _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles dictionaries, lists, numbers, strings and NumPy arrays, and refuses the rest."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__new__,
            ("numpy._core.multiarray", "_reconstruct"): np.ndarray.__new__,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in protocol 2
        }
        try:
            return allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here") from None


def _dtype(kind: bytes | str, align: int = 0, copy: int = 0) -> np.dtype:
    # Old pickles give 0 and 1 for the flags; NumPy 2.4 warns of anything but a bool.
    return np.dtype(kind.decode() if isinstance(kind, bytes) else kind, bool(align), bool(copy))


def _encode(text: bytes | str, encoding: bytes | str) -> bytes:
    return text.encode("latin1") if isinstance(text, str) else text
