"""Reading files that are not trusted, and writing files that survive a crash.

Only plain files of an expected size are read: a pipe may never end, whatever its name promises.
Links are followed when reading, and never when writing. A file is written as a new one beside its
place (``NAME.<digits>.part``), synced, and renamed over the old one; the folder is synced too,
since a power cut could undo the renaming.
"""

import contextlib
import errno
import json
import os
import re
import reprlib
import stat
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from cifar_lab.errors import UserError

JSON_LIMIT = 2**26  # bytes; the results of a study take some 100,000 for each run
YAML_LIMIT = 2**16  # bytes; all settings of a run take about 1,000
REMOTE = r"[A-Za-z][\w.+-]+:/"  # how a URL begins; a Path reduces two slashes to one
RENAME_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between attempts on Windows


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise a UserError in place of an operating system's error or an invalid path's.

    Its message is ``what``, such as ``x.csv: cannot be read``, and the reason in brackets.
    """
    try:
        yield
    except UserError:
        raise
    # RuntimeError: "~" of an unknown user. ValueError: a name that no file can have; no UTF-8.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shown(error)
        raise UserError(f"{what} ({reason})") from error


def check_local(path: str | os.PathLike[str], name: str) -> None:
    """Raise a UserError, which calls the path ``name``, if it is empty or a URL.

    An empty path often comes from a shell variable that is not set.
    """
    if not os.fspath(path):
        raise UserError(f"{name} '': expected a path")
    if re.match(REMOTE, os.fspath(path)):
        raise UserError(f"{name} {shown(path)}: a URL; expected a path on this machine")


# --- reading ------------------------------------------------------------------------------------


def check_file(path: str | Path, limit: int, name: str = "") -> int:
    """Return the size of a plain file in bytes, without opening it.

    An error message calls the file by its ``name``, or else by its path.

    Raises:
        UserError: The path is a folder, a pipe or a device, or the file is larger than the limit.
        OSError: There is no such file, or it cannot be examined.
    """
    status, name = os.stat(path), name or str(path)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{name}: not a file, but a folder, pipe or device")
    if status.st_size > limit:
        raise UserError(f"{name}: too large ({status.st_size:,} bytes; at most {limit:,} are read)")
    return status.st_size


def read_file(path: str | Path, limit: int, name: str = "") -> bytes:
    """Return the content of a file that :func:`check_file` accepts; raise what it raises."""
    size = check_file(path, limit, name)
    with open(path, "rb") as file:
        return file.read(size)


def read_json(path: Path, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object in a JSON file, which must have fields of these names and types.

    Raises:
        UserError: The file cannot be read or does not hold such an object.
    """
    with explained(f"{path}: cannot be read"):
        content = read_file(path, JSON_LIMIT)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({shown(error)})") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: damaged (no object)")
    for name, kind in types.items():
        if not isinstance(found.get(name), kind):
            raise UserError(f"{path}: damaged (no {name}, or not one of its type)")
    return found


class _PlainLoader(yaml.SafeLoader):
    """A safe loader without aliases, with which a few lines could stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases (*) are not read", problem_mark=mark)
        return super().compose_node(parent, index)


def read_yaml(path: str | Path, flag: str = "") -> dict[str, Any]:
    """Return the settings in a YAML file, unchecked; ``flag`` is the flag that named the file.

    Raises:
        UserError: The file cannot be read, or is not a list of settings.
    """
    name = f"{flag} {shown(path)}".strip()
    with explained(f"{name}: cannot be read"):
        text = read_file(Path(path).expanduser(), YAML_LIMIT, name).decode("utf-8")
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Return the settings in a YAML text; ``name`` is what an error message calls it."""
    try:
        content = yaml.load(text, _PlainLoader)
    except Exception as error:  # values such as 0x or 2001-99-99 raise more than YAML errors
        reason = shown(error) or type(error).__name__
        raise UserError(f"{name}: not a YAML file ({reason})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{name}: expected lines of the form 'setting: value'")
    return content


class _Short(reprlib.Repr):
    """Shows a few items of containers, and only the type of values that it does not know."""

    def repr_instance(self, x: object, level: int) -> str:
        plain = x is None or isinstance(x, bool | float | bytes)
        return super().repr_instance(x, level) if plain else f"({type(x).__name__})"


def shown(value: object, longest: int = 100) -> str:
    """Return an untrusted value as text for a message: printable, short and on one line."""
    try:
        # Only the start of a container is formatted: a nested one may have no end.
        text = (
            _Short().repr(value)
            if isinstance(value, list | tuple | dict | set | frozenset)
            else str(value)
        )
        text = " ".join(text.split())
    except (ValueError, RecursionError):  # an integer of too many digits; a list in itself
        return f"(a value of type {type(value).__name__})"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= longest else text[:longest] + "…"


def as_utf8(text: str) -> str:
    """Escape what is not UTF-8 in a text; names of files may hold any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- writing ------------------------------------------------------------------------------------


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all, as :func:`new_file` does."""
    with new_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes its place when it is whole. A link there is replaced, not followed.

    Raises:
        OSError: The file could not be written. The old one is unchanged, and nothing lies beside
            it.
    """
    part = part_of(path)
    try:
        with part.open("xb") as file:  # fails where anything has this name, even a link to nothing
            yield file
            file.flush()
            os.fsync(file.fileno())
        _rename(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def part_of(path: Path) -> Path:
    """Return a new path beside a file, for content that is not complete yet."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")


def check_own(path: Path) -> None:
    """Raise FileExistsError if a file that is to be locked or appended to has other names."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            what = "is a link, pipe or folder; remove it"
            raise FileExistsError(errno.EEXIST, f"{path.name} {what}")


def make_folder(path: Path) -> None:
    """Make a folder if it is missing; raise FileExistsError where a link leads to another one."""
    if path.is_symlink():
        raise FileExistsError(errno.EEXIST, f"{path.name} is a link")
    path.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write plain values as a JSON file, as :func:`write_atomically` does."""
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode(errors="backslashreplace"))  # names that are not UTF-8


def copy_file(file: Path, other: Path) -> None:
    """Copy a file to another path, as :func:`write_atomically` writes.

    A second link to the file would save the copy, but whoever writes into one of them in place
    would change the other.
    """
    write_atomically(other, file.read_bytes())


def _rename(part: Path, path: Path) -> None:
    """Rename a file; on Windows wait for a program that still reads the old one."""
    for seconds in RENAME_PAUSES if sys.platform == "win32" else ():
        try:
            os.replace(part, path)
            return
        except PermissionError:
            time.sleep(seconds)
    os.replace(part, path)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system supports that."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
