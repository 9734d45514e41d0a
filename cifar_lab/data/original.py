"""The original files of CIFAR-10, "python version": the archive or the folder extracted from it.

Each file is a pickle, and a pickle can run code; so its checksum is verified first, and it is then
read by an unpickler that knows no code but its own (plain_pickle.py). The archive is read in
memory: nothing is extracted, so nothing can be written outside a folder. That takes seconds, so
what it holds is kept in the cache (cache.py).

Source: https://www.cs.toronto.edu/~kriz/cifar.html; the checksums of the files are those that
``torchvision.datasets.CIFAR10`` holds (a test compares them).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from cifar_lab.data import cache
from cifar_lab.data.download import ARCHIVE_MD5, ARCHIVE_NAME, ARCHIVE_SIZE
from cifar_lab.data.image_set import IMAGE_SHAPE, ImageSet
from cifar_lab.data.plain_pickle import PixelBytes, unpickle
from cifar_lab.errors import UserError
from cifar_lab.files import read_file, shown

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
# What is read at most; a batch has 31,035,704 bytes, the unpacked archive 186 million.
FILE_LIMIT = 2**25
UNPACKED_LIMIT = 2**28

T = TypeVar("T")
Content = tuple[dict[str, np.ndarray], tuple[str, ...]]


def read_folder(folder: Path) -> ImageSet:
    """Reads the extracted folder ``cifar-10-batches-py``.

    Raises:
        UserError: a file is missing or is not the original one.
    """
    arrays, class_names = _collect(folder, lambda name: _verified(folder / name))
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
    content = _read(archive, ARCHIVE_SIZE)
    _check(content, ARCHIVE_MD5, archive)
    try:
        with tarfile.open(fileobj=io.BytesIO(_unzip(content)), mode="r:") as tar:
            return _collect(archive, lambda name: _member(tar, name, archive))
    except UserError:
        raise
    except Exception as error:  # tarfile and gzip raise errors of every kind for damaged files
        raise UserError(f"{archive}: not a readable {ARCHIVE_NAME} ({shown(error)})") from error


def _unzip(content: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        unpacked = file.read(UNPACKED_LIMIT + 1)
    if len(unpacked) > UNPACKED_LIMIT:
        raise ValueError(f"more than {UNPACKED_LIMIT:,} bytes when unpacked")
    return unpacked


def _member(tar: tarfile.TarFile, name: str, archive: Path) -> bytes:
    """A file of the archive, read like one of the folder; links are not followed."""
    member = tar.getmember(f"{FOLDER_NAME}/{name}")
    file = tar.extractfile(member) if member.isreg() and member.size <= FILE_LIMIT else None
    if file is None:
        raise ValueError(f"{name}: not a file of at most {FILE_LIMIT:,} bytes")
    content = file.read()
    _check(content, CHECKSUMS[name], archive, f": {name}")
    return content


def _verified(path: Path) -> bytes:
    content = _read(path, FILE_LIMIT)
    _check(content, CHECKSUMS[path.name], path, remove=path.parent)
    return content


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_file(path, limit)
    except FileNotFoundError:
        raise UserError(
            f"{path}: missing; expected all of {', '.join(CHECKSUMS)}.\n" + _repair(path.parent)
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _check(
    content: bytes, expected: str, path: Path, member: str = "", remove: Path | None = None
) -> None:
    found = md5(content)
    if found != expected:
        raise UserError(
            f"{path}{member}: {len(content):,} bytes with MD5 {found}, expected {expected}; "
            "the file is truncated or altered.\n" + _repair(remove or path)
        )


def _repair(damaged: Path) -> str:
    """What helps. A folder goes as a whole: its archive is looked at only where there is none."""
    if damaged.is_file() and damaged.name != ARCHIVE_NAME:
        return f"If it is not CIFAR-10's archive, {ARCHIVE_NAME}, name a folder instead."
    own = damaged.name == FOLDER_NAME or damaged.is_file()  # and nobody else's
    paths = [damaged] if own else [damaged / name for name in CHECKSUMS]
    command = shlex.join(["rm", "-rf", *map(str, paths)])
    return f"Remove it, and CIFAR-10 is taken from its archive or downloaded: {command}"


def md5(content: bytes) -> str:
    """The checksum of a file's content: against accidents, not against an attacker."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _collect(where: Path, read: Callable[[str], bytes]) -> Content:
    """Puts the batches together, one at a time: arrays by ImageSet's fields, and class names."""
    class_names = _parsed(where, META_FILE, read, _class_names)
    batches = [_parsed(where, name, read, _batch) for name in (*TRAIN_FILES, TEST_FILE)]
    labels = [labels for _, labels in batches]
    if max(part.max(initial=0) for part in labels) >= len(class_names):
        raise UserError(f"{where}: labels above those of the {len(class_names)} classes")
    arrays = {
        "train_images": np.concatenate([images for images, _ in batches[:-1]]),
        "train_labels": np.concatenate(labels[:-1]),
        "test_images": batches[-1][0].copy(),  # torch wants memory that may be written
        "test_labels": labels[-1],
    }
    return arrays, class_names


def _parsed(where: Path, name: str, read: Callable[[str], bytes], parse: Callable[[bytes], T]) -> T:
    content = read(name)
    try:
        return parse(content)
    except Exception as error:  # the content decides which
        reason = shown(error) or type(error).__name__
        raise UserError(f"{where}: {name}: not a file of CIFAR-10 ({reason})") from error


def _class_names(content: bytes) -> tuple[str, ...]:
    return tuple(name.decode() for name in unpickle(content)[b"label_names"])


def _batch(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = unpickle(content)
    pixels, numbers = batch[b"data"], batch[b"labels"]
    if not isinstance(pixels, PixelBytes) or not isinstance(numbers, list):
        raise ValueError("data that are no array, or labels that are no list")
    # As bytes, for which every label must be an integer from 0 to 255.
    labels = np.frombuffer(bytes(numbers), dtype=np.uint8).astype(np.int64)
    images = np.frombuffer(pixels.content, dtype=np.uint8).reshape(len(labels), *IMAGE_SHAPE)
    return images, labels
