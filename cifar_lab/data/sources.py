"""Where the images come from: find CIFAR-10, download it, or fall back to the synthetic set.

The order of ``source="auto"``: original folder, original archive or image tree in the data folder;
else a download into it; else the synthetic set, with a warning. ``"cifar10"`` does the same but
never falls back; ``"synthetic"`` looks nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from cifar_lab.data import folder, original, synthetic
from cifar_lab.data.download import (
    ARCHIVE_NAME,
    DownloadError,
    StorageError,
    download_archive,
)
from cifar_lab.data.image_set import ImageSet
from cifar_lab.data.progress import Report
from cifar_lab.errors import UserError
from cifar_lab.files import shown

Source = Literal["auto", "cifar10", "synthetic"]
SOURCES: tuple[Source, ...] = ("auto", "cifar10", "synthetic")
DEFAULT_FOLDER = Path("data")
Reader = Callable[[], ImageSet]


def resolve_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The data folder: as given, else ``$CIFAR_LAB_DATA``, else ``./data``.

    Raises:
        UserError: a folder that was named does not exist, which is more likely a slip than a wish.
    """
    for name, value in (
        ("data_dir", data_dir),
        ("CIFAR_LAB_DATA", os.environ.get("CIFAR_LAB_DATA")),
    ):
        if value:
            try:
                path = Path(value).expanduser()
                there = path.exists()
            except (OSError, RuntimeError) as error:  # no path, or the home of nobody
                reason = getattr(error, "strerror", None) or error
                raise UserError(f"{name} {shown(value)}: cannot be read ({reason})") from error
            if not there:
                advice = f"create the folder (mkdir -p '{path}')"
                if path.name in (ARCHIVE_NAME, original.FOLDER_NAME):  # it may have been removed
                    advice = f"name the folder '{path.parent}'"
                raise UserError(
                    f"{name} {path}: no such folder. Correct the path, or {advice} to have "
                    "CIFAR-10 downloaded into it."
                )
            return path
    return DEFAULT_FOLDER


def check_source(source: str) -> None:
    """Refuses what is none of ``SOURCES``: a misspelt "cifar10" must not mean "auto".

    Raises:
        UserError: it is none.
    """
    if source not in SOURCES:
        raise UserError(f"source {source!r}: expected one of {', '.join(SOURCES)}")


def prepare(data_dir: Path, source: Source, report: Report, mirrors: Sequence[str] = ()) -> None:
    """Downloads CIFAR-10 where it is wanted and not there. Run it on one process.

    Args:
        data_dir: the data folder, the extracted folder or the archive itself.
        source: "auto", "cifar10" or "synthetic".
        report: takes what happens, a line each.
        mirrors: as of ``download_archive``.

    Raises:
        UserError: ``source`` is unknown, a mirror is no http(s) address, or ``source`` is "cifar10"
            and no mirror delivered.
    """
    check_source(source)
    if source == "synthetic" or find(data_dir) is not None:
        return
    try:
        download_archive(data_dir, mirrors, report)
    except DownloadError as error:
        if source == "cifar10":
            raise
        report(str(error))
    except StorageError as error:
        if source == "cifar10" or data_dir != DEFAULT_FOLDER:  # a folder that was named is meant
            raise
        report(str(error))


def load(
    data_dir: Path, source: Source, *, verify: bool = False, report: Report = print
) -> ImageSet:
    """Reads the images; downloads nothing.

    Args:
        data_dir: the data folder, the extracted folder or the archive itself.
        source: "auto", "cifar10" or "synthetic".
        verify: of an image tree, compare the contents with the cache's.
        report: is told, line by line, what takes time or needs attention.

    Raises:
        UserError: ``source`` is unknown, nothing usable is there and it is "cifar10", or what is
            there is damaged.
    """
    check_source(source)
    if source == "synthetic":
        return synthetic_set()
    reader = find(data_dir, verify=verify, report=report)
    if reader is not None:
        return reader()
    if source == "cifar10":
        raise UserError(f"{data_dir}: no CIFAR-10 here; expected {_EXPECTED}")
    report(_FALLBACK_WARNING.format(folder=data_dir))
    return synthetic_set()


def find(data_dir: Path, *, verify: bool = False, report: Report = print) -> Reader | None:
    """What reads the data in this folder, or None where there are none.

    Raises:
        UserError: image folders of one split alone, or a folder that may not be entered.
    """
    try:
        return _find(data_dir, verify, report)
    except OSError as error:
        raise UserError(f"{data_dir}: cannot be read ({error.strerror or error})") from error


def _find(data_dir: Path, verify: bool, report: Report) -> Reader | None:
    archive = data_dir if data_dir.is_file() else data_dir / ARCHIVE_NAME
    for extracted in (data_dir / original.FOLDER_NAME, data_dir):
        if any((extracted / name).is_file() for name in original.CHECKSUMS):
            return partial(original.read_folder, extracted)
    if archive.is_file():
        return partial(original.read_archive, archive)
    if folder.is_tree(data_dir):
        return partial(folder.read_tree, data_dir, verify, report)
    folder.check_no_half(data_dir)
    return None


def synthetic_set() -> ImageSet:
    """The embedded set with its default seed; see synthetic.py."""
    arrays = synthetic.generate()
    return ImageSet(*arrays, class_names=synthetic.CLASS_NAMES, source="synthetic")


_EXPECTED = (
    f"{ARCHIVE_NAME}, the folder {original.FOLDER_NAME}/, or image folders train/<class>/ and "
    "test/<class>/"
)
_FALLBACK_WARNING = (
    """\
******************************************************************************************
*  WARNING: training on SYNTHETIC images. CIFAR-10 was neither found nor downloaded.     *
*  The numbers of this run say nothing about CIFAR-10.                                   *
******************************************************************************************
Looked in {folder} for """
    + _EXPECTED
    + """.
To rule this out, give --source cifar10; to ask for these images, --source synthetic."""
)
