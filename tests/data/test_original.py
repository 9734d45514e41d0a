"""The original files: read as they are, and never opened before their checksum holds."""

import os
import pickle
import shlex
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock, call

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from cifar_lab.data import original, sources
from cifar_lab.errors import UserError

INSIDE = original.FOLDER_NAME


@pytest.fixture
def folder(write_original: Callable[..., Path]) -> Path:
    """The extracted folder, with one image in each file."""
    return write_original(per_file=1) / INSIDE


def _pack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack a folder into an archive, and patch the checksum to it."""
    path = folder.with_name(original.ARCHIVE_NAME)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, INSIDE)
    monkeypatch.setattr(original, "ARCHIVE_MD5", original.md5(path.read_bytes()))
    return path


def _do_as_told(message: str) -> None:
    """Run the command at the end of a message."""
    subprocess.run(shlex.split(message.rpartition(": ")[2]), check=True)


def test_folder_and_archive_give_the_same_images(write_original, monkeypatch) -> None:
    path = write_original() / INSIDE
    folder = original.read_folder(path)
    archive = original.read_archive(_pack(path, monkeypatch))
    assert folder.train_images.shape == (100, 3, 32, 32)
    assert folder.test_images.shape == (20, 3, 32, 32)
    assert folder.train_images.dtype == np.uint8
    assert folder.class_names[3] == "class3"
    assert folder.train_labels[:12].tolist() == [*range(10), 0, 1]
    second = pickle.loads((path / "data_batch_2").read_bytes(), encoding="bytes")
    assert np.array_equal(folder.train_images[20:40].reshape(20, -1), second[b"data"])
    assert folder.fingerprint == archive.fingerprint
    assert folder.source == archive.source == "cifar10"


def test_the_checksums_are_those_of_torchvision() -> None:
    theirs = dict(CIFAR10.train_list + CIFAR10.test_list)
    theirs[CIFAR10.meta["filename"]] = CIFAR10.meta["md5"]
    assert theirs == original.CHECKSUMS
    assert CIFAR10.tgz_md5 == original.ARCHIVE_MD5


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "missing"])
def test_a_damaged_or_missing_file_is_named_with_what_helps(damage, folder, monkeypatch) -> None:
    unpickle = Mock(wraps=original._unpickle)
    monkeypatch.setattr(original, "_unpickle", unpickle)
    path = folder / "data_batch_3"
    content = path.read_bytes()
    damaged = {"truncated": content[:-1], "altered": b"\0" + content[1:]}.get(damage, b"")
    path.unlink() if damage == "missing" else path.write_bytes(damaged)
    said = "missing; expected all of" if damage == "missing" else r".* MD5 .*, expected "
    with pytest.raises(UserError, match=f"data_batch_3: {said}") as caught:
        original.read_folder(folder)
    assert call(damaged) not in unpickle.mock_calls
    assert str(caught.value).count("\n") == 1
    _do_as_told(str(caught.value))
    assert sources.find(folder.parent) is None  # so that it is downloaded
    for named in (folder, folder.with_name(original.ARCHIVE_NAME)):  # where --data_dir did so
        with pytest.raises(UserError, match=f"name the folder '{folder.parent}' to have CIFAR-10"):
            sources.resolve_folder(named)


def test_a_folder_that_may_hold_other_things_is_not_removed(folder) -> None:
    folder = folder.rename("it's mine")
    (folder / "letters.txt").write_text("dear")
    (folder / "data_batch_3").write_bytes(b"")
    with pytest.raises(UserError, match=r"data_batch_3: .* MD5") as caught:
        original.read_folder(folder)
    _do_as_told(str(caught.value))
    assert [path.name for path in folder.iterdir()] == ["letters.txt"]


def test_a_file_of_another_name_is_not_to_be_removed() -> None:
    Path("holiday.zip").write_bytes(b"pictures")
    with pytest.raises(UserError, match="If it is not CIFAR-10's archive") as caught:
        original.read_archive(Path("holiday.zip"))
    assert "rm" not in str(caught.value).split()


def test_an_archive_is_unpacked_once_and_a_damaged_one_never(folder, monkeypatch) -> None:
    archive = _pack(folder, monkeypatch)
    first = original.read_archive(archive)
    monkeypatch.setattr(tarfile, "open", lambda *a, **k: pytest.fail("opened"))
    again = original.read_archive(archive)  # from the cache
    assert again.fingerprint == first.fingerprint
    assert again.class_names == first.class_names
    content = archive.read_bytes()
    for damaged in (content + b"more", content[:-10]):
        archive.write_bytes(damaged)
        with pytest.raises(UserError, match="truncated or altered"):
            original.read_archive(archive)


def test_endless_and_oversized_files_are_refused(folder, monkeypatch) -> None:
    path = folder / "data_batch_1"
    monkeypatch.setattr(original, "FILE_LIMIT", 1000)
    with pytest.raises(UserError, match=r"data_batch_1: too large .* at most 1,000 are read"):
        original.read_folder(path.parent)
    for replace in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        path.unlink()
        replace()
        with pytest.raises(UserError, match="data_batch_1: not a file"):
            original.read_folder(path.parent)


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
    batch = original._unpickle(_python2_batch(images, [3, 1, 4, 1]))
    assert np.array_equal(batch[b"data"], images)
    assert batch[b"labels"] == [3, 1, 4, 1]
