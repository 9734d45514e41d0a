"""Where data are looked for, and what happens when they are not there."""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cifar_lab.data import original, sources
from cifar_lab.data.download import DownloadError, StorageError
from cifar_lab.errors import UserError


@pytest.fixture
def _no_download(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    def fail(data_dir: Path, mirrors: Sequence[str], report: Callable[[str], None]) -> Path:
        raise DownloadError("no mirror delivered")

    monkeypatch.setattr(sources, "download_archive", fail)
    return []


def test_the_data_folder_is_the_flag_then_the_variable_then_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert sources.resolve_folder(None) == Path("data")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.setenv("CIFAR_LAB_DATA", str(tmp_path / "one"))
    assert sources.resolve_folder(None) == tmp_path / "one"
    assert sources.resolve_folder(tmp_path / "two") == tmp_path / "two"


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_named_folder_that_is_not_there_is_refused(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_LAB_DATA", "nowhere" if by == "variable" else "")
    with pytest.raises(UserError, match=r"nowhere: no such folder.*mkdir -p"):
        sources.resolve_folder("nowhere" if by == "flag" else None)


def test_every_layout_is_found(write_original: Callable[..., Path], tree: Path) -> None:
    data = write_original()
    for place in (data, data / original.FOLDER_NAME):
        assert sources.load(place, "auto").source == "cifar10"
    assert sources.load(tree, "cifar10", report=lambda line: None).source == "folder"


def test_a_folder_comes_before_an_archive_and_an_archive_before_a_tree(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("read_folder", "read_archive"):
        monkeypatch.setattr(original, name, lambda path, name=name: name)
    (tree / original.ARCHIVE_NAME).touch()
    assert sources.load(tree, "auto") == "read_archive"
    assert sources.load(tree / original.ARCHIVE_NAME, "auto") == "read_archive"
    (tree / original.FOLDER_NAME).mkdir()
    assert sources.load(tree, "auto") == "read_archive"  # the folder is empty
    (tree / original.FOLDER_NAME / "data_batch_1").touch()
    assert sources.load(tree, "auto") == "read_folder"


@pytest.mark.usefixtures("_no_download")
def test_auto_falls_back_to_synthetic_with_a_warning(tmp_path: Path) -> None:
    lines: list[str] = []
    sources.prepare(tmp_path, "auto", lines.append)
    images = sources.load(tmp_path, "auto", report=lines.append)
    assert images.source == "synthetic"
    assert "SYNTHETIC" in images.description
    assert lines[0] == "no mirror delivered"
    assert "WARNING: training on SYNTHETIC images" in lines[1]


@pytest.mark.usefixtures("_no_download")
def test_cifar10_never_falls_back(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no mirror"):
        sources.prepare(tmp_path, "cifar10", print)
    with pytest.raises(UserError, match=r"no CIFAR-10 here; expected cifar-10-python\.tar\.gz"):
        sources.load(tmp_path, "cifar10")


def test_asking_for_synthetic_looks_nowhere_and_warns_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "download_archive", lambda *a, **k: pytest.fail("downloaded"))
    lines: list[str] = []
    sources.prepare(tmp_path, "synthetic", lines.append)
    assert sources.load(tmp_path, "synthetic", report=lines.append).source == "synthetic"
    assert lines == []


def test_data_that_are_there_are_not_downloaded(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "download_archive", lambda *a, **k: pytest.fail("downloaded"))
    sources.prepare(tree, "cifar10", print)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_image_folders_of_one_split_alone_are_refused(
    missing: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "download_archive", lambda *a, **k: pytest.fail("downloaded"))
    (tree / missing).rename(tree / "elsewhere")
    for use in (sources.prepare, lambda *given: sources.load(*given[:2])):
        with pytest.raises(UserError, match=f"no {missing}/<class>/; image folders need both"):
            use(tree, "auto", print)


def test_a_folder_that_only_looks_like_a_split_is_none(tree: Path) -> None:
    (tree / "test").rename(tree / "elsewhere")
    for image in (tree / "train").rglob("*.png"):
        image.rename(image.with_suffix(".txt"))
    assert sources.find(tree) is None


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'imagenet': expected one of auto, cifar10, synthetic"):
        sources.prepare(tmp_path, "imagenet", print)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["device", "pipe", "archive is a pipe"])
def test_a_data_folder_that_is_none_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero")
    if kind != "device":
        path = tmp_path / (original.ARCHIVE_NAME if kind == "archive is a pipe" else "pipe")
        os.mkfifo(path)
    with pytest.raises(UserError, match="cannot store"):
        sources.prepare(path, "auto", print)
    with pytest.raises(UserError, match="no CIFAR-10 here"):
        sources.load(path, "cifar10")


def test_a_data_folder_that_may_not_be_entered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_file", forbidden)  # as for anybody but root
    with pytest.raises(UserError, match=r"cannot be read .Permission denied"):
        sources.find(tmp_path)


@pytest.mark.parametrize("source", ["auto", "cifar10"])
@pytest.mark.parametrize("folder", ["data", "named"])
def test_where_nothing_can_be_stored_synthetic_images_do_unless_a_folder_is_meant(
    source: sources.Source, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> Path:
        raise StorageError("cannot store it")

    monkeypatch.setattr(sources, "download_archive", fail)
    lines: list[str] = []
    if source == "auto" and folder == "data":
        sources.prepare(Path(folder), source, lines.append)
        assert lines == ["cannot store it"]
    else:
        with pytest.raises(StorageError):
            sources.prepare(Path(folder), source, lines.append)
