"""The original files: read as they are, and never opened before their checksum holds."""

import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from cifar_lab.data import original
from cifar_lab.errors import UserError

WriteOriginal = Callable[..., Path]


def _pack(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive of an extracted folder, its checksum patched."""
    archive = data / original.ARCHIVE_NAME
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(data / original.FOLDER_NAME, original.FOLDER_NAME)
    monkeypatch.setattr(original, "ARCHIVE_MD5", original.md5(archive.read_bytes()))
    return archive


def test_folder_and_archive_give_the_same_images(
    write_original: WriteOriginal, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_original()
    folder = original.read_folder(data / original.FOLDER_NAME)
    archive = original.read_archive(_pack(data, monkeypatch))
    assert folder.train_images.shape == (100, 3, 32, 32)
    assert folder.test_images.shape == (20, 3, 32, 32)
    assert folder.train_images.dtype == np.uint8
    assert folder.class_names[3] == "class3"
    assert folder.train_labels[:12].tolist() == [*range(10), 0, 1]
    assert folder.fingerprint == archive.fingerprint
    assert folder.source == archive.source == "cifar10"


def test_the_checksums_are_those_of_torchvision() -> None:
    theirs = dict(CIFAR10.train_list + CIFAR10.test_list)
    theirs[CIFAR10.meta["filename"]] = CIFAR10.meta["md5"]
    assert theirs == original.CHECKSUMS
    assert CIFAR10.tgz_md5 == original.ARCHIVE_MD5


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_a_damaged_file_is_named_and_never_unpickled(
    damage: str, write_original: WriteOriginal, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_original() / original.FOLDER_NAME
    content = (folder / "data_batch_3").read_bytes()
    damaged = {"truncated": content[:-1], "altered": b"\0" + content[1:], "empty": b""}[damage]
    (folder / "data_batch_3").write_bytes(damaged)
    opened: list[bytes] = []
    unpickle = original._unpickle
    monkeypatch.setattr(original, "_unpickle", lambda c: opened.append(c) or unpickle(c))
    with pytest.raises(UserError, match=r"data_batch_3: .* MD5 .*, expected ") as caught:
        original.read_folder(folder)
    assert damaged not in opened
    assert str(caught.value).count("\n") == 1


def test_a_damaged_archive_is_never_opened(
    write_original: WriteOriginal, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = _pack(write_original(), monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-10])
    monkeypatch.setattr(tarfile, "open", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(UserError, match="truncated or altered"):
        original.read_archive(archive)


def test_a_missing_file_is_named(write_original: WriteOriginal) -> None:
    folder = write_original() / original.FOLDER_NAME
    (folder / "test_batch").unlink()
    with pytest.raises(UserError, match="test_batch: missing"):
        original.read_folder(folder)


def test_an_archive_without_the_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / original.ARCHIVE_NAME
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    monkeypatch.setattr(original, "ARCHIVE_MD5", original.md5(archive.read_bytes()))
    with pytest.raises(UserError, match="not a readable"):
        original.read_archive(archive)


def test_an_archive_is_unpacked_once_and_anew_when_it_changes(
    write_original: WriteOriginal, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = _pack(write_original(), monkeypatch)
    first = original.read_archive(archive)
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *a, **k: pytest.fail("opened"))
        again = original.read_archive(archive)
    assert again.fingerprint == first.fingerprint
    assert again.class_names == first.class_names
    archive.write_bytes(archive.read_bytes() + b"more")
    with pytest.raises(UserError, match="truncated or altered"):
        original.read_archive(archive)


class _Mark:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("was-here",)


def test_a_crafted_pickle_runs_nothing_even_with_the_right_checksum(
    write_original: WriteOriginal, tmp_path: Path
) -> None:
    folder = write_original() / original.FOLDER_NAME
    content = pickle.dumps({b"data": _Mark(), b"labels": []}, protocol=2)
    (folder / "data_batch_1").write_bytes(content)
    original.CHECKSUMS["data_batch_1"] = original.md5(content)
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        original.read_folder(folder)
    assert not (tmp_path / "was-here").exists()


def _python2_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2's cPickle wrote the originals: byte strings, and flags as integers."""
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    array = images.tobytes()
    return (
        b"\x80\x02}(U\x06labels](" + numbers + b"eU\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01K" + bytes([len(images)]) + b"M" + struct.pack("<H", images.shape[1]) + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(array)) + array + b"tbu."
    )


def test_pickles_of_python_2_are_read_without_a_warning() -> None:
    images = np.random.RandomState(0).randint(0, 256, (4, 3072)).astype(np.uint8)
    found, labels = original._batch(_python2_batch(images, [3, 1, 4, 1]))
    assert np.array_equal(found.reshape(4, -1), images)
    assert labels.tolist() == [3, 1, 4, 1]
