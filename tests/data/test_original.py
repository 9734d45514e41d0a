"""The original files: read as they are, and never opened before their checksum holds."""

import io
import os
import pickle
import shlex
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from cifar_lab.data import original, sources
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
    unpickle = original.unpickle
    monkeypatch.setattr(original, "unpickle", lambda c: opened.append(c) or unpickle(c))
    with pytest.raises(UserError, match=r"data_batch_3: .* MD5 .*, expected ") as caught:
        original.read_folder(folder)
    assert damaged not in opened
    assert str(caught.value).count("\n") == 1
    _do_as_told(str(caught.value))
    assert sources.find(folder.parent) is None  # so that it is downloaded
    for named in (folder, folder.with_name("cifar-10-python.tar.gz")):  # where --data_dir did so
        with pytest.raises(UserError, match=f"name the folder '{folder.parent}' to have CIFAR-10"):
            sources.resolve_folder(named)


def test_a_damaged_archive_is_never_opened(
    write_original: WriteOriginal, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = _pack(write_original(), monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-10])
    monkeypatch.setattr(tarfile, "open", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(UserError, match="truncated or altered"):
        original.read_archive(archive)


def test_a_file_of_another_name_is_not_to_be_removed(tmp_path: Path) -> None:
    other = tmp_path / "holiday.zip"
    other.write_bytes(b"pictures")
    with pytest.raises(UserError, match="If it is not CIFAR-10's archive") as caught:
        original.read_archive(other)
    assert "rm" not in str(caught.value).split()


def test_a_missing_file_is_named(write_original: WriteOriginal) -> None:
    folder = write_original() / original.FOLDER_NAME
    (folder / "test_batch").unlink()
    with pytest.raises(UserError, match="test_batch: missing") as caught:
        original.read_folder(folder)
    _do_as_told(str(caught.value))
    assert sources.find(folder.parent) is None


def _do_as_told(message: str) -> None:
    """Runs the command at the end of a message."""
    subprocess.run(shlex.split(message.rpartition(": ")[2]), check=True)


def test_a_folder_that_may_hold_other_things_is_not_removed(write_original: WriteOriginal) -> None:
    folder = (write_original() / original.FOLDER_NAME).rename("it's mine")
    (folder / "letters.txt").write_text("dear")
    (folder / "data_batch_3").write_bytes(b"")
    with pytest.raises(UserError, match=r"data_batch_3: .* MD5") as caught:
        original.read_folder(folder)
    _do_as_told(str(caught.value))
    assert [path.name for path in folder.iterdir()] == ["letters.txt"]


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
    with pytest.raises(UserError, match=r"data_batch_1: .*mkdir is not allowed"):
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


# --- crafted files ----------------------------------------------------------------------------


def _archive_of(
    entries: dict[str, tarfile.TarInfo | bytes], path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An archive with these entries beside the right checksum; bytes become plain files."""
    with tarfile.open(path, "w:gz") as tar:
        for name, entry in entries.items():
            content = entry if isinstance(entry, bytes) else b""
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(entry, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(original, "ARCHIVE_MD5", original.md5(path.read_bytes()))
    return path


def _link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def members(write_original: WriteOriginal) -> dict[str, tarfile.TarInfo | bytes]:
    """The files of a whole archive, in a folder ``data`` and under their names in the archive."""
    folder = write_original(per_file=1) / original.FOLDER_NAME
    return {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_a_file_of_an_archive_is_unpickled_only_after_its_checksum_holds(
    members: dict[str, tarfile.TarInfo | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crafted = pickle.dumps({b"data": _Mark(), b"labels": []}, protocol=2)
    members[f"{original.FOLDER_NAME}/data_batch_4"] = crafted
    archive = _archive_of(members, tmp_path / "x.tar.gz", monkeypatch)
    opened: list[bytes] = []
    unpickle = original.unpickle
    monkeypatch.setattr(original, "unpickle", lambda c: opened.append(c) or unpickle(c))
    with pytest.raises(UserError, match=r"x\.tar\.gz: data_batch_4: .* MD5 .*, expected"):
        original.read_archive(archive)
    assert crafted not in opened
    original.CHECKSUMS["data_batch_4"] = original.md5(crafted)
    with pytest.raises(UserError, match=r"data_batch_4: .*mkdir is not allowed"):
        original.read_archive(archive)
    assert crafted in opened
    assert not (tmp_path / "was-here").exists()


def test_an_archive_writes_nothing_wherever_its_entries_point(
    members: dict[str, tarfile.TarInfo | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = f"{original.FOLDER_NAME}/"
    members |= {
        str(tmp_path / "absolute"): b"x",
        "../above": b"x",
        f"{inside}../../two-above": b"x",
        "soft": _link("soft", str(tmp_path), tarfile.SYMTYPE),
        "soft/through": b"x",
        "hard": _link("hard", str(tmp_path / "x"), tarfile.LNKTYPE),
        "pipe": _link("pipe", "", tarfile.FIFOTYPE),
    }
    archive = _archive_of(members, tmp_path / "x.tar.gz", monkeypatch)
    before = sorted(tmp_path.parent.rglob("*"))
    original.read_archive(archive)
    new = set(tmp_path.parent.rglob("*")) - set(before)
    cached = tmp_path / "cache"
    assert {path for path in new if cached not in (path, *path.parents)} == set()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_in_place_of_a_file_of_an_archive_is_refused(
    kind: bytes,
    members: dict[str, tarfile.TarInfo | bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"{original.FOLDER_NAME}/test_batch"
    members[name] = _link(name, name, kind)  # to itself: following it would never end
    archive = _archive_of(members, tmp_path / "x.tar.gz", monkeypatch)
    with pytest.raises(UserError, match=r"x\.tar\.gz: .*test_batch: not a file of at most"):
        original.read_archive(archive)


def test_an_archive_that_unpacks_to_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(original, "UNPACKED_LIMIT", 10**6)
    archive = _archive_of({"zeros": bytes(2 * 10**6)}, tmp_path / "x.tar.gz", monkeypatch)
    assert archive.stat().st_size < 10**5
    with pytest.raises(UserError, match="more than 1,000,000 bytes when unpacked"):
        original.read_archive(archive)


def test_endless_and_oversized_files_are_refused(
    write_original: WriteOriginal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_original() / original.FOLDER_NAME / "data_batch_1"
    monkeypatch.setattr(original, "FILE_LIMIT", 1000)
    with pytest.raises(UserError, match=r"data_batch_1: too large .* at most 1,000 are read"):
        original.read_folder(path.parent)
    for replace in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        path.unlink()
        replace()
        with pytest.raises(UserError, match="data_batch_1: not a file"):
            original.read_folder(path.parent)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({b"labels": [10]}, "labels above those of the 10 classes"),
        ({b"labels": [-1]}, "not a file of CIFAR-10"),
        ({b"labels": [0, 1]}, "not a file of CIFAR-10"),
        ({b"labels": [[0]]}, "not a file of CIFAR-10"),
        ({b"data": [0] * 3072}, "data that are no array"),
        ({b"data": np.zeros((1, 3072))}, "instead of uint8"),
        ({b"data": np.zeros((2, 3072), np.uint8, "F"), b"labels": [0, 0]}, "in C order"),
        ({b"data": np.array([_Mark()])}, "not allowed|instead of uint8"),
        ({b"data": bytearray(3072)}, "not a file of CIFAR-10"),
    ],
)
def test_content_of_another_kind_is_refused(
    change: dict[bytes, object], said: str, write_original: WriteOriginal
) -> None:
    folder = write_original(per_file=1) / original.FOLDER_NAME
    batch = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [0], **change}
    content = pickle.dumps(batch, protocol=2)
    (folder / "data_batch_1").write_bytes(content)
    original.CHECKSUMS["data_batch_1"] = original.md5(content)
    with pytest.raises(UserError, match=said):
        original.read_folder(folder)
    assert not Path("was-here").exists()
