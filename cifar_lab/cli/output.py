"""The files that a command writes, and the JSON that it prints."""

import atexit
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cifar_lab.errors import UserError
from cifar_lab.files import make_folder, part_of
from cifar_lab.run_settings import RunSettings


@contextlib.contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """Make the folder of a file that a flag names, and explain why the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, UnicodeError) as error:  # TensorBoard takes only paths in UTF-8
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{flag} {path}: cannot be written ({reason})") from error


def check_writable(flag: str, path: Path | None) -> None:
    """Check before hours of work that its result can be written to a file; leave no new file."""
    if path is None:
        return
    with writing(flag, path):
        if path.exists() and not path.is_file():
            raise UserError(f"{flag} {path}: not a file")
        part = part_of(path)
        part.open("xb").close()
        part.unlink()


def folder_beside(checkpoint: Path, named: Path, output: Path | None) -> Path:
    """Return the folder for files that are made from a checkpoint; make it before the work begins.

    It is ``output``, or the folder of the checkpoint, or the current folder for a pretrained model,
    which lies inside this package. The folder of the checkpoint may not be a link if the user named
    another folder, such as that of the run, which may come from somebody else.
    """
    from cifar_lab.run.checkpoint import PRETRAINED  # slow to import

    is_ours = checkpoint.parent.resolve() == PRETRAINED.resolve()
    folder = output or (Path() if is_ours else checkpoint.parent)
    try:
        if not output and checkpoint != named:
            make_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        told = f"{folder}: cannot be written to ({error.strerror})"
        hint = f"{told}; give --output a folder to write to"
        raise UserError(f"--output {told}" if output else hint) from error
    return folder


def find_temporary_folder(paths: Iterable[object]) -> None:
    """Make a folder for temporary files where a command writes, if there is no other place.

    Some libraries need one when they are imported. It is removed when the process exits.
    """
    with contextlib.suppress(FileNotFoundError):
        tempfile.gettempdir()
        return
    for name in filter(None, (*paths, RunSettings.log_dir)):
        path = Path(str(name)).absolute()
        folder = next(place for place in (path, *path.parents) if place.is_dir())
        with contextlib.suppress(OSError):
            made = tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder)
            atexit.register(made.cleanup)
            tempfile.tempdir = made.name
            return


def check_figure(flag: str, path: Path | None) -> None:
    """Check that the suffix of a figure names a format, and that it can be written."""
    from cifar_lab.run.plot import FORMATS

    if path and path.suffix not in FORMATS:
        raise UserError(f"{flag} {path}: expected a name that ends in {', '.join(FORMATS)}")
    check_writable(flag, path)


def print_json(as_json: bool, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the results of some work; ``as_json`` prints them, and other output to stderr."""
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = work()
    if as_json:
        print(json.dumps(found))
    return found
