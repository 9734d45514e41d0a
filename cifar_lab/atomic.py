"""Files that are written whole or not at all: a crash or a full disk leaves the old one.

A file is written to the side (``NAME.part``), synced, renamed over the old one, and the folder is
synced too: without that a power cut could still undo the rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between the tries of _replace


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Writes a file; only one process at a time may do so.

    Raises:
        OSError: it could not be written; the old file is as it was, and nothing lies beside it.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Writes plain values as a JSON file, as ``write_atomically``; raises the same."""
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode(errors="backslashreplace"))  # names that are no UTF-8


def _replace(part: Path, path: Path) -> None:
    """Renames a file; on Windows again for a while, where a program that reads it forbids that."""
    for seconds in PAUSES if sys.platform == "win32" else ():
        try:
            os.replace(part, path)
            return
        except PermissionError:
            time.sleep(seconds)
    os.replace(part, path)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
