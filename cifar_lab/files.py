"""Reading files that are not trusted: plain ones only, and no more of one than was expected.

A pipe may never say a word and a device never end, whatever their names promise. Links are
followed: reading through one gives away nothing that the user may not read.
"""

from __future__ import annotations

import json
import os
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_lab.errors import UserError

JSON_LIMIT = 2**26  # bytes; what a study keeps of a run takes some 100,000
CONTAINERS = (list, tuple, dict, set, frozenset)


def check_file(path: str | Path, limit: int) -> int:
    """Refuses what is no plain file or too large, before it is opened.

    Args:
        path: of the file.
        limit: most bytes.

    Returns:
        Its size in bytes.

    Raises:
        UserError: a folder, a pipe, a device, or more than ``limit`` bytes.
        OSError: no such file, a loop of links, or it may not be looked at.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not a file, but a folder, pipe or device")
    if status.st_size > limit:
        raise UserError(f"{path}: too large ({status.st_size:,} bytes; at most {limit:,} are read)")
    return status.st_size


def read_file(path: str | Path, limit: int) -> bytes:
    """The content of a file that ``check_file`` lets pass; raises the same."""
    size = check_file(path, limit)
    with open(path, "rb") as file:
        return file.read(size)


def read_json(path: Path, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Args:
        path: of the file.
        kinds: of the values that it must have.

    Raises:
        UserError: it cannot be read, is no such object, or lacks one of the values.
    """
    try:
        found = json.loads(read_file(path, JSON_LIMIT))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({shown(error)})") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: damaged (no object)")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            raise UserError(f"{path}: damaged (no {name}, or not one of its kind)")
    return found


class _Short(reprlib.Repr):
    """Looks a few items wide and deep; of what it does not know it tells the kind."""

    def repr_instance(self, x: object, level: int) -> str:
        plain = x is None or isinstance(x, bool | float | bytes)
        return super().repr_instance(x, level) if plain else f"({type(x).__name__})"


def shown(value: object, longest: int = 100) -> str:
    """A foreign value in a message: on one line, printable and not too long."""
    try:
        # Of a container no more than is shown is put into words: nested, it may have no end.
        text = _Short().repr(value) if isinstance(value, CONTAINERS) else str(value)
        text = " ".join(text.split())
    except (ValueError, RecursionError):  # an integer of too many digits; a list in itself
        return f"(a value of type {type(value).__name__})"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= longest else text[:longest] + "…"
