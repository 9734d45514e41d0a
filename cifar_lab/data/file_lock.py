"""A partly downloaded file for one process alone, and the operating system's lock behind it.

The lock is on ``NAME.lock`` beside the file: a second process waits, on Posix and on Windows. A
lock ends with its process, so one that died leaves nothing to clear away by hand.
"""

import contextlib
import errno
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cifar_lab.data.progress import Report

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_POLL_SECONDS = 0.2
LOCKED_BYTE = 2**30  # far behind what is in the file: a locked byte cannot be read


@contextlib.contextmanager
def own_part(archive: Path, report: Report) -> Iterator[Path]:
    """Give the path of a ``.part`` that no other process writes, and tidy up afterwards.

    Normally the one to resume, under a lock: a second process waits, then finds the archive. On a
    file system without locks it is one with a random name, which nobody can resume.
    """
    missing = [folder for folder in archive.parents if not folder.exists()]
    try:
        with _locked(archive.with_name(f"{archive.name}.lock"), report) as is_locked:
            suffix = ".part" if is_locked else f".{uuid.uuid4().hex}.part"
            part = archive.with_name(archive.name + suffix)
            _require_plain(part)
            try:
                yield part
            finally:
                if not is_locked or (part.exists() and part.stat().st_size == 0):
                    part.unlink(missing_ok=True)
    finally:
        for folder in missing:  # the deepest first; one that holds something stays
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _locked(path: Path, report: Report) -> Iterator[bool]:
    """Hold the operating system's lock on a file, which ends with the process whatever happens."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_plain(path)
        with path.open("ab") as file:
            is_locked = _wait_for_lock(file, report)
            if not is_at(file, path):
                continue  # removed by the one who held it: a third process may lock a new file
            try:
                yield is_locked
            finally:
                with contextlib.suppress(OSError):  # Windows keeps an open file; it is empty
                    path.unlink()
            return


def _require_plain(path: Path) -> None:
    """Refuses to write through a link, or into a pipe, that somebody put there in our place."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileExistsError(errno.EEXIST, f"{path.name} is a link, pipe or folder; remove it")


def _wait_for_lock(file: IO[bytes], report: Report) -> bool:
    """Return True with the lock held, False where the file system has no locks."""
    is_told = False
    while True:
        try:
            if try_lock(file):
                return True
        except OSError:
            return False
        if not is_told:
            name = Path(file.name).stem
            report(f"Waiting for another process that downloads {name} ({file.name})")
        is_told = True
        time.sleep(LOCK_POLL_SECONDS)


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file; return whether that was possible, or False where another process has it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            file.seek(LOCKED_BYTE)  # Windows locks bytes, from where the file stands
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # Posix, Windows
        return False
    return True


def is_at(file: IO[Any], path: Path) -> bool:
    """Return whether an open file is still the one that the path names."""
    try:
        return sys.platform == "win32" or os.path.samefile(file.fileno(), path)
    except FileNotFoundError:
        return False
