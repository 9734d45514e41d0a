"""Where data are looked for, and what happens when they are not there."""

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from cifar_lab.data import original, sources
from cifar_lab.data.download import DownloadError, StorageError, download_archive
from cifar_lab.errors import UserError


@pytest.fixture(autouse=True)
def download(monkeypatch) -> Mock:
    """The function that downloads the archive, and fails."""
    mock = Mock(side_effect=DownloadError("no mirror delivered"))
    monkeypatch.setattr(sources, "download_archive", mock)
    return mock


def test_the_data_folder_is_the_flag_then_the_variable_then_data(monkeypatch) -> None:
    assert sources.resolve_folder(None) == Path("data")
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


def test_auto_falls_back_to_synthetic_with_a_warning(tmp_path) -> None:
    lines: list[str] = []
    sources.prepare(tmp_path, "auto", lines.append)
    images = sources.load(tmp_path, "auto", report=lines.append)
    assert images.source == "synthetic"
    assert "SYNTHETIC" in images.description
    assert lines[0] == "no mirror delivered"
    assert "WARNING: training on SYNTHETIC images" in lines[1]


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
    with pytest.raises(UserError, match="cannot store"):
        sources.prepare(path, "auto", print)
    with pytest.raises(UserError, match=r"no CIFAR-10 here; expected cifar-10-python\.tar\.gz"):
        sources.load(path, "cifar10")


def test_a_data_folder_that_may_not_be_entered_is_refused(monkeypatch) -> None:
    forbidden = Mock(side_effect=PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    monkeypatch.setattr(Path, "is_file", forbidden)  # as for anybody but root
    with pytest.raises(UserError, match=r"here: cannot be read .Permission denied"):
        sources.find(Path("here"))


def test_synthetic_images_do_where_nothing_can_be_stored(download) -> None:
    download.side_effect = StorageError("cannot store it")
    lines: list[str] = []
    sources.prepare(Path("data"), "auto", lines.append)
    assert lines == ["cannot store it"]
    for folder, source in (("data", "cifar10"), ("named", "auto"), ("named", "cifar10")):
        with pytest.raises(StorageError):
            sources.prepare(Path(folder), source, print)
