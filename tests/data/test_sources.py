"""Where data are looked for, and what happens when they are not there."""

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from cifar_lab.data import original, sources
from cifar_lab.data.download import DownloadError, StorageError, download_archive
from cifar_lab.data.image_set import ImageSet
from cifar_lab.errors import UserError


@pytest.fixture(autouse=True)
def download(monkeypatch) -> Mock:
    """The function that downloads the archive, and fails."""
    mock = Mock(side_effect=DownloadError("no mirror delivered\nadvice"))
    monkeypatch.setattr(sources, "download_archive", mock)
    return mock


def test_the_data_folder_is_the_flag_then_the_variable_then_data(monkeypatch) -> None:
    assert sources.resolve_folder(None) is None
    Path("one").mkdir()
    Path("two").mkdir()
    monkeypatch.setenv("CIFAR_LAB_DATA", "one")
    assert sources.resolve_folder(None) == Path("one")
    assert sources.resolve_folder("two") == Path("two")


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_named_folder_that_is_not_there_is_refused(by: str, monkeypatch) -> None:
    monkeypatch.setenv("CIFAR_LAB_DATA", "nowhere" if by == "variable" else "")
    with pytest.raises(UserError, match=r"nowhere: no such folder.*mkdir -p"):
        sources.resolve_folder("nowhere" if by == "flag" else None)


def test_every_layout_is_found_and_not_downloaded(write_original, tree, download) -> None:
    data = write_original()
    found = {data: "cifar10", data / original.FOLDER_NAME: "cifar10", tree: "folder"}
    for place, source in found.items():
        sources.prepare(place, "cifar10", print)
        assert sources.load(place, "cifar10").source == source
    download.assert_not_called()


def test_a_folder_comes_before_an_archive_before_a_tree(tree, monkeypatch) -> None:
    for name in ("read_folder", "read_archive"):
        monkeypatch.setattr(original, name, lambda path, name=name: name)
    (tree / original.ARCHIVE_NAME).touch()
    assert sources.load(tree / original.ARCHIVE_NAME, "auto") == "read_archive"
    (tree / original.FOLDER_NAME).mkdir()
    assert sources.load(tree, "auto") == "read_archive"  # the folder is empty
    (tree / original.FOLDER_NAME / "data_batch_1").touch()
    assert sources.load(tree, "auto") == "read_folder"


@pytest.mark.parametrize(
    ("train", "test", "classes", "expected"),
    [
        (50_000, 10_000, 10, True),
        (50_000, 10_000, 100, False),
        (45_000, 10_000, 10, False),
        (50_000, 2_000, 10, False),
    ],
)
def test_cifar10_is_known_by_its_numbers(train, test, classes, expected) -> None:
    images, names = np.empty((0, 3, 32, 32), np.uint8), tuple(map(str, range(classes)))
    labels = np.zeros(train, np.int64), np.zeros(test, np.int64)
    found = ImageSet(images, labels[0], images, labels[1], names, "folder")
    assert found.is_cifar10 == expected


def test_auto_falls_back_to_synthetic_with_a_warning() -> None:
    lines: list[str] = []
    sources.prepare(None, "auto", lines.append)
    images = sources.load(None, "auto", report=lines.append)
    assert images.source == "synthetic"
    assert "SYNTHETIC" in images.description
    assert lines[0] == "no mirror delivered"
    assert "WARNING: training on SYNTHETIC images" in lines[1]


@pytest.mark.parametrize(("folder", "source"), [("", "cifar10"), (".", "cifar10"), (".", "auto")])
def test_cifar10_and_a_named_folder_never_fall_back(folder: str, source: sources.Source) -> None:
    named = Path(folder) if folder else None
    with pytest.raises(DownloadError, match="no mirror"):
        sources.prepare(named, source, print)
    with pytest.raises(UserError, match=r"no CIFAR-10 here; expected cifar-10-python\.tar\.gz"):
        sources.load(named, source)


def test_asking_for_synthetic_images_warns_of_nothing(tmp_path, download) -> None:
    lines: list[str] = []
    sources.prepare(tmp_path, "synthetic", lines.append)
    assert sources.load(tmp_path, "synthetic", report=lines.append).source == "synthetic"
    assert lines == download.mock_calls == []


@pytest.mark.parametrize("missing", ["train", "test"])
def test_image_folders_of_one_split_alone_are_refused(missing: str, tree, download) -> None:
    (tree / missing).rename(tree / "elsewhere")
    for use in (sources.prepare, lambda *given: sources.load(*given[:2])):
        with pytest.raises(UserError, match=f"no {missing}/<class>/; image folders need both"):
            use(tree, "auto", print)
    download.assert_not_called()


def test_a_folder_that_only_looks_like_a_split_is_none(tree) -> None:
    (tree / "test").rename(tree / "elsewhere")
    for image in (tree / "train").rglob("*.png"):
        image.rename(image.with_suffix(".txt"))
    assert sources.find(tree) is None


@pytest.mark.parametrize("kind", ["device", "pipe", original.ARCHIVE_NAME])
def test_a_data_folder_that_is_none_is_refused_at_once(kind: str, download) -> None:
    path = Path("/dev/zero" if kind == "device" else kind)
    if kind != "device":
        os.mkfifo(path)
    download.side_effect = download_archive  # the real one
    for use in (sources.prepare, lambda *given: sources.load(*given[:2])):
        with pytest.raises(UserError, match="no CIFAR-10 here"):
            use(path, "auto", print)


def test_a_data_folder_that_may_not_be_entered_is_refused(monkeypatch) -> None:
    forbidden = Mock(side_effect=PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    monkeypatch.setattr(Path, "is_file", forbidden)  # as for anybody but root
    with pytest.raises(UserError, match=r"here: cannot be read .Permission denied"):
        sources.find(Path("here"))


@pytest.mark.parametrize("source", ["auto", "cifar10"])
@pytest.mark.parametrize("folder", ["", "data", "named"])
def test_synthetic_images_do_where_nothing_can_be_stored(
    source: sources.Source, folder: str, download
) -> None:
    download.side_effect = StorageError("cannot store it")
    lines: list[str] = []
    if source == "auto" and not folder:
        sources.prepare(None, source, lines.append)
        assert lines == ["cannot store it"]
    else:
        with pytest.raises(StorageError):
            sources.prepare(Path(folder) if folder else None, source, lines.append)


FOREIGN = {  # files of a named folder, and what is said of them
    "CIFAR-10-C/fog.npy CIFAR-10-C/labels.npy": r"fog\.npy: an array .*evaluate",
    "cifar-100-python/train cifar-100-python/test cifar-100-python/meta": "100-python: CIFAR-100",
    "cifar-10-batches-bin/data_batch_1.bin": "batches-bin: CIFAR-10's binary version",
    "data_batch_1.mat": "Matlab version",
    "plain_text/train-00000-of-00001.parquet": "parquet: a table of images",
    "a/c.zip README": r"c\.zip: an archive .*unpack",
    "letters.txt": r"no CIFAR-10 here \(found: letters\.txt\); expected .*train/<class>",
    "bird/0.png cat/0.png": r"found: bird, cat\)",
    "a/b/c/d/e.txt": r"found: a\)",
}


@pytest.mark.parametrize("source", ["auto", "cifar10"])
@pytest.mark.parametrize("files", FOREIGN)
def test_a_named_folder_that_holds_something_else_is_an_error(
    files: str, source: sources.Source, tmp_path, download
) -> None:
    for name in files.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for use in (sources.prepare, lambda *given: sources.load(*given[:2])):
        with pytest.raises(UserError, match=FOREIGN[files]):
            use(tmp_path, source, print)
    download.assert_not_called()


def test_an_empty_named_folder_gets_the_download(tmp_path, download) -> None:
    (tmp_path / "lost+found").mkdir()
    for name in (".DS_Store", "Thumbs.db", f"{original.ARCHIVE_NAME}.part"):
        (tmp_path / name).touch()
    with pytest.raises(DownloadError):
        sources.prepare(tmp_path, "auto", print)
    download.assert_called_once()


def test_data_in_a_folder_below_are_read_if_they_are_the_only_ones(
    write_tree, write_original, tmp_path
) -> None:
    for root in (write_tree("one/cifar10/images"), write_tree("two/cifar10")):
        above = root.parents[len(root.relative_to(tmp_path).parts) - 2]
        assert sources.load(above, "auto", report=lambda line: None).location == str(root)
    twice = write_original(f"three/{original.FOLDER_NAME}").parent
    assert sources.load(twice, "auto").source == "cifar10"
    write_tree("two/other")
    with pytest.raises(UserError, match=r"cifar10 and .*other: name one of them"):
        sources.load(tmp_path / "two", "auto")
    with pytest.raises(UserError, match=r"train: a part of the data; name .*cifar10"):
        sources.load(tmp_path / "two/cifar10/train", "auto")
