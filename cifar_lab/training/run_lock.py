"""One process trains a run: the operating system's lock on a file in its folder.

A lock ends with its process, however that ends, so one that died leaves nothing to clear away.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cifar_lab.data.file_lock import is_at, try_lock
from cifar_lab.errors import UserError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder; where the file system has no locks, nothing is held.

    Raises:
        UserError: another process holds it; says which.
        OSError: the folder cannot be written.
    """
    path = folder / "run.lock"
    with _lock(path) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps an open file
                path.unlink()


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock of a run's folder now, or may do so."""
    try:
        with (folder / "run.lock").open("r+") as file:
            return not try_lock(file)  # closing the file gives the lock back
    except FileNotFoundError:
        return False
    except OSError:  # no locks here, or not for us
        return True


def _lock(path: Path) -> IO[str]:
    """Opens and locks the file, again where the one who held it just removed it."""
    while True:
        file = path.open("a+")
        try:
            is_ours = try_lock(file)
        except OSError:
            return file  # no locks here
        if is_ours and is_at(file, path):
            return file
        with file:
            if not is_ours:
                file.seek(0)
                owner = file.read().strip() or "another"
                raise UserError(f"{path.parent}: process {owner} is training this run")
