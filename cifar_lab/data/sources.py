"""Source of the images: CIFAR-10 on disk, a download, or the synthetic set.

A folder that is given must hold the data: the original folder, the original archive or an image
tree, in it or at most two levels down. CIFAR-10 is downloaded into an empty folder; anything else
is an error. If no folder is given, ``source="auto"`` looks in ``./data``. If there are no data,
CIFAR-10 is downloaded into it, and if this fails, the synthetic set is used, with a warning.
``"cifar10"`` never uses the synthetic set, ``"synthetic"`` always does.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from cifar_lab.data import folder, original, synthetic
from cifar_lab.data.download import ARCHIVE_NAME, DownloadError, StorageError, download_archive
from cifar_lab.data.image_set import ImageSet
from cifar_lab.data.progress import Report
from cifar_lab.data.unknown import is_unused, levels, what_is_there
from cifar_lab.errors import UserError, first_line
from cifar_lab.files import check_local, explained, shown

Source = Literal["auto", "cifar10", "synthetic"]
SOURCES: tuple[Source, ...] = ("auto", "cifar10", "synthetic")
DEFAULT_FOLDER = Path("data")


def resolve_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """Return the data folder: the given one, else ``$CIFAR_LAB_DATA``, else None.

    Raises:
        UserError: The folder does not exist, which is probably a typo.
    """
    name, value = "data_dir", data_dir
    if value is None:
        name, value = "CIFAR_LAB_DATA", os.environ.get("CIFAR_LAB_DATA") or None
    if value is None:
        return None
    with explained(f"{name} {shown(value)}: cannot be read"):
        check_local(value, name)
        path = Path(value).expanduser()
        if path.exists():
            return path
    advice = f"create the folder (mkdir -p '{path}')"
    if path.name in (ARCHIVE_NAME, original.FOLDER_NAME):  # the user may have removed it
        advice = f"name the folder '{path.parent}'"
    raise UserError(
        f"{name} {path}: no such folder. Correct the path, or {advice} to have "
        "CIFAR-10 downloaded into it."
    )


def check_source(source: str) -> None:
    """Raise a UserError for a source that is not in ``SOURCES``, such as a misspelt "cifar10"."""
    if source not in SOURCES:
        raise UserError(f"source {source!r}: expected one of {', '.join(SOURCES)}")


def prepare(
    data_dir: Path | None,
    source: Source,
    report: Report,
    mirrors: Sequence[str] = (),
    classes: tuple[str, ...] = (),
) -> None:
    """Download CIFAR-10 if it is needed and missing. Call this function in one process only.

    Args:
        data_dir: the data folder, the extracted folder or the archive itself; None if no folder
            is given.
        source: "auto", "cifar10" or "synthetic".
        report: function that takes each message about slow steps and problems.
        mirrors: http(s) addresses of the archive; see ``download_archive``.
        classes: names of a model's classes; to evaluate it, an image tree needs no training split.

    Raises:
        UserError: A mirror is not an http(s) address; the given folder holds something else; or
            the download failed, and ``source`` is "cifar10" or a folder is given.
    """
    check_source(source)
    if source == "synthetic" or find(data_dir, classes=classes) is not None:
        return
    if data_dir is not None and not is_unused(data_dir):
        raise what_is_there(data_dir, _EXPECTED)
    try:
        download_archive(data_dir or DEFAULT_FOLDER, mirrors, report)
    except (DownloadError, StorageError) as error:
        if source == "cifar10" or data_dir is not None:
            raise
        report(first_line(error))  # the second line says how to get CIFAR-10


def load(
    data_dir: Path | None,
    source: Source,
    *,
    classes: tuple[str, ...] = (),
    verify: bool = False,
    report: Report = print,
) -> ImageSet:
    """Read the images without downloading anything; the arguments are those of ``prepare``.

    ``verify`` decodes an image tree again, without its cache.

    Raises:
        UserError: The data are damaged; or there are none, and ``source`` is "cifar10" or a folder
            is given.
    """
    reader = None
    if source != "synthetic":
        reader = find(data_dir, classes=classes, verify=verify, report=report)
    if reader is not None:
        with _readable(data_dir):
            return reader()
    if source != "synthetic":
        if data_dir is not None or source == "cifar10":
            raise what_is_there(data_dir or DEFAULT_FOLDER, _EXPECTED)
        report(_FALLBACK_WARNING.format(folder=DEFAULT_FOLDER))
    arrays = synthetic.generate()
    return ImageSet(*arrays, class_names=synthetic.CLASS_NAMES, source="synthetic")


def find(
    data_dir: Path | None,
    *,
    classes: tuple[str, ...] = (),
    verify: bool = False,
    report: Report = print,
) -> Callable[[], ImageSet] | None:
    """Return a function that reads the data in this folder, or None if there are none.

    Raises:
        UserError: There are image folders of only one split, there are several data sets in the
            subfolders, or the folder cannot be read.
    """
    reader_in = partial(_reader, classes=classes, verify=verify, report=report)
    with _readable(data_dir):
        if data_dir is None:
            return reader_in(DEFAULT_FOLDER)
        for number, level in enumerate(levels(data_dir)):
            places = [path for path in level if number == 0 or _is_open(path)]
            found = [(path, reader) for path in places if (reader := reader_in(path))]
            if len(found) > 1:
                raise UserError(f"{found[0][0]} and {found[1][0]}: name one of them (--data_dir)")
            if found:
                return found[0][1]
    return None


def _is_open(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.R_OK | os.X_OK)


def _reader(
    path: Path, *, classes: tuple[str, ...], verify: bool, report: Report
) -> Callable[[], ImageSet] | None:
    """Return a function that reads the data in this folder itself, or None."""
    is_archive = path.is_file() and path.suffix not in (".npy", ".npz")
    archive = path if is_archive else path / ARCHIVE_NAME
    for extracted in (path / original.FOLDER_NAME, path):
        if any((extracted / name).is_file() for name in original.CHECKSUMS):
            return partial(original.read_folder, extracted)
    if archive.is_file():
        return partial(original.read_archive, archive)
    if folder.find_splits(path, classes):
        return partial(folder.read_tree, path, verify, report, classes)
    return None


@contextlib.contextmanager
def _readable(path: Path | None) -> Iterator[None]:
    """Turn an OSError into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        name, reason = error.filename or path, error.strerror or error
        raise UserError(f"{name}: cannot be read ({reason})") from error


_EXPECTED = (
    f"{ARCHIVE_NAME}, the folder {original.FOLDER_NAME}/, or image folders train/<class>/ and "
    "test/<class>/"
)
_FALLBACK_WARNING = f"""\
******************************************************************************************
*  WARNING: training on SYNTHETIC images. CIFAR-10 was neither found nor downloaded.     *
*  The numbers of this run say nothing about CIFAR-10.                                   *
******************************************************************************************
Looked in {{folder}} for {_EXPECTED}.
To rule this out, give --source cifar10; to ask for these images, --source synthetic."""
