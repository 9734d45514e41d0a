"""The files that a command writes, and the JSON that it prints."""

import contextlib
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cifar_lab.errors import UserError


@contextlib.contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """Make the folder of a file that a flag names, and explain if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written ({error.strerror})") from error


def check_writable(flag: str, path: Path | None) -> None:
    """Check, before hours of work, that a file can be written at its end; leave no new file."""
    if path is None:
        return
    with writing(flag, path):
        if path.exists() and not path.is_file():
            raise UserError(f"{flag} {path}: not a file")
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:4]}")  # as long as NAME.part
        part.open("xb").close()
        part.unlink()


def check_figure(flag: str, path: Path | None) -> None:
    """Check that the suffix of a figure names a format, and that it can be written."""
    from cifar_lab.run.plot import FORMATS

    if path and path.suffix not in FORMATS:
        raise UserError(f"{flag} {path}: expected a name that ends in {', '.join(FORMATS)}")
    check_writable(flag, path)


def print_json(as_json: bool, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the results of some work; with ``as_json``, print them, and all else to stderr."""
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = work()
    if as_json:
        print(json.dumps(found))
    return found
