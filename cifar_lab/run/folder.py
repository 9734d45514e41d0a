"""The folder of a run, ``<log_dir>/<name>/version_N``, and its lock.

config.yaml     all settings; ``--config`` takes it to repeat the run
hparams.yaml    the same, as Lightning's logger for TensorBoard writes them
events.*        what TensorBoard shows; val/ and test/ have the curves of evaluations
metrics.csv     the same scalars as a table
loggers.json    ids of the run in MLflow and others, where ``--logger`` names them
summary.json    the result
figures/        curves, confusion matrix and other pictures (PNG)
checkpoints/    best.ckpt (where there is a validation split) and last.ckpt
run.lock        while a process trains the run
traceback.txt   after a process of the run lost another one
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_lab.errors import UserError
from cifar_lab.files import check_local, check_own, explained, shown


class LockedError(UserError):
    """Another process holds a lock."""


class RunFolder:
    """The paths of a run.

    Args:
        log_dir: folder of all runs.
        name: name of the model, followed by ``-synthetic`` for a run on synthetic images.
        version: ``version_N``.

    Attributes:
        path: the run's own folder; the other attributes are the files in it.
    """

    def __init__(self, log_dir: Path, name: str, version: str) -> None:
        self.log_dir, self.name, self.version = log_dir, name, version
        self.path = log_dir / name / version
        self.config = self.path / "config.yaml"
        self.hparams = self.path / "hparams.yaml"
        self.metrics = self.path / "metrics.csv"
        self.summary = self.path / "summary.json"
        self.loggers = self.path / "loggers.json"
        self.figures = self.path / "figures"
        self.best_checkpoint = self.path / "checkpoints" / "best.ckpt"
        self.last_checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.lock = self.path / "run.lock"
        self.traceback = self.path / "traceback.txt"

    @classmethod
    def at(cls, path: Path) -> RunFolder:
        """Return the folder of a run at a path."""
        return cls(path.parent.parent, path.parent.name, path.name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the run; where the file system has no locks, do nothing.

        Raises:
            LockedError: Another process holds it.
            OSError: The folder cannot be written, or something else is in place of the lock.
        """
        check_own(self.lock)
        with locked(self.lock, f"{self.path}: another process is training this run"):
            yield

    @property
    def is_locked(self) -> bool:
        """Whether another process holds the lock now, or may do so."""
        if not self.lock.exists():
            return False
        try:
            with self.locked():
                return False
        except (UserError, OSError):
            return True


@contextlib.contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """Hold a lock, a file at a path; where the file system has no locks, do nothing.

    Raises:
        LockedError: Another process holds it; ``message`` is the text of the error.
        OSError: The file cannot be written.
    """
    lock = FileLock(path, timeout=0, is_singleton=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(message) from error
    except NotImplementedError:  # the file system has no locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            path.unlink()


def folder_of_runs(log_dir: str | Path) -> Path:
    """Return the folder of all runs, with ``~`` expanded."""
    with explained(f"log_dir {shown(log_dir)}: no such folder"):
        check_local(log_dir, "log_dir")
        return Path(log_dir).expanduser()


def claim(log_dir: str, name: str) -> RunFolder:
    """Create the next free version; two runs that start together get different ones."""
    parent = folder_of_runs(log_dir) / name
    with explained(f"log_dir {shown(log_dir)}: cannot be written, give another --log_dir"):
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_version_number(entry.name) for entry in os.scandir(parent)), default=-1)
        while True:
            try:
                (parent / f"version_{number}").mkdir()  # fails for all processes but one
                return RunFolder(parent.parent, name, f"version_{number}")
            except FileExistsError:
                number += 1


def run_folders(log_dir: Path, name: str = "*") -> list[RunFolder]:
    """Return the folders of the runs of one name, or of all names, oldest version first."""
    found = [RunFolder.at(path) for path in log_dir.glob(f"{name}/version_*")]
    numbers = {run: _version_number(run.version) for run in found}
    return sorted((run for run in found if numbers[run] >= 0), key=numbers.__getitem__)


def _version_number(name: str) -> int:
    found = re.fullmatch(r"version_(\d+)", name)
    return int(found[1]) if found else -1
