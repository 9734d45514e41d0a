"""Source of the images: CIFAR-10 on disk, a download, or the synthetic set.

``source="auto"`` looks in the data folder for the original folder, the original archive or an image
tree. If there is none, CIFAR-10 is downloaded into it. If this fails, the synthetic set is used,
with a warning. ``"cifar10"`` does the same but never falls back to the synthetic set.
``"synthetic"`` always uses the synthetic set.
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
from cifar_lab.errors import UserError
from cifar_lab.files import shown

Source = Literal["auto", "cifar10", "synthetic"]
SOURCES: tuple[Source, ...] = ("auto", "cifar10", "synthetic")
DEFAULT_FOLDER = Path("data")


def resolve_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Return the data folder: the given one, else ``$CIFAR_LAB_DATA``, else ``./data``.

    Raises:
        UserError: The named folder does not exist, which is probably a typing error.
    """
    name = "data_dir" if data_dir else "CIFAR_LAB_DATA"
    value = data_dir or os.environ.get("CIFAR_LAB_DATA")
    if not value:
        return DEFAULT_FOLDER
    try:
        path = Path(value).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError) as error:  # not a path, or an unknown user
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} {shown(value)}: cannot be read ({reason})") from error
    advice = f"create the folder (mkdir -p '{path}')"
    if path.name in (ARCHIVE_NAME, original.FOLDER_NAME):  # the user may have removed it
        advice = f"name the folder '{path.parent}'"
    raise UserError(
        f"{name} {path}: no such folder. Correct the path, or {advice} to have "
        "CIFAR-10 downloaded into it."
    )


def check_source(source: str) -> None:
    """Refuse a source that is not in ``SOURCES``: a misspelt "cifar10" must not mean "auto"."""
    if source not in SOURCES:
        raise UserError(f"source {source!r}: expected one of {', '.join(SOURCES)}")


def prepare(data_dir: Path, source: Source, report: Report, mirrors: Sequence[str] = ()) -> None:
    """Download CIFAR-10 if it is needed and missing. Call this function in one process only.

    Args:
        data_dir: the data folder, the extracted folder or the archive itself.
        source: "auto", "cifar10" or "synthetic".
        report: called with each line about what takes time or needs attention.
        mirrors: http(s) addresses of the archive; see ``download_archive``.

    Raises:
        UserError: A mirror is not an http(s) address; or the download failed, and ``source`` is
            "cifar10" or the user chose a folder that cannot be written.
    """
    check_source(source)
    if source == "synthetic" or find(data_dir) is not None:
        return
    try:
        download_archive(data_dir, mirrors, report)
    except (DownloadError, StorageError) as error:
        is_chosen = isinstance(error, StorageError) and data_dir != DEFAULT_FOLDER
        if source == "cifar10" or is_chosen:  # by the user
            raise
        report(str(error))


def load(
    data_dir: Path, source: Source, *, verify: bool = False, report: Report = print
) -> ImageSet:
    """Read the images without downloading anything; the arguments are those of ``prepare``.

    ``verify`` decodes an image tree anew, without its cache.

    Raises:
        UserError: The data are damaged, or ``source`` is "cifar10" and there are no data.
    """
    reader = None if source == "synthetic" else find(data_dir, verify=verify, report=report)
    if reader is not None:
        with _readable(data_dir):
            return reader()
    if source == "cifar10":
        raise UserError(f"{data_dir}: no CIFAR-10 here; expected {_EXPECTED}")
    if source != "synthetic":
        report(_FALLBACK_WARNING.format(folder=data_dir))
    arrays = synthetic.generate()
    return ImageSet(*arrays, class_names=synthetic.CLASS_NAMES, source="synthetic")


def find(
    data_dir: Path, *, verify: bool = False, report: Report = print
) -> Callable[[], ImageSet] | None:
    """Return a function that reads the data in this folder, or None if there are none.

    Raises:
        UserError: There are image folders of one split only, or the folder cannot be read.
    """
    with _readable(data_dir):
        archive = data_dir if data_dir.is_file() else data_dir / ARCHIVE_NAME
        for extracted in (data_dir / original.FOLDER_NAME, data_dir):
            if any((extracted / name).is_file() for name in original.CHECKSUMS):
                return partial(original.read_folder, extracted)
        if archive.is_file():
            return partial(original.read_archive, archive)
        if folder.is_tree(data_dir):
            return partial(folder.read_tree, data_dir, verify, report)
        return None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
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
