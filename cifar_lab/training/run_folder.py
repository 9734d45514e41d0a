"""The folder of a run: ``<log_dir>/<name>/version_N``.

config.yaml     all settings; ``--config`` takes it to repeat the run
hparams.yaml    the same, as Lightning's logger for TensorBoard writes them
events.*        what TensorBoard shows
metrics.csv     the same scalars as a table
summary.json    what came out
checkpoints/    best.ckpt (where there is a validation split) and last.ckpt
run.lock        while a process trains it; see run_lock.py
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.errors import UserError
from cifar_lab.files import shown


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run.

    Attributes:
        log_dir: folder of all runs.
        name: the model's, with ``-synthetic`` for a run on synthetic images.
        version: ``version_N``.
    """

    log_dir: Path
    name: str
    version: str

    @property
    def path(self) -> Path:
        """The run's own folder."""
        return self.log_dir / self.name / self.version

    @property
    def config(self) -> Path:
        """All settings, as YAML."""
        return self.path / "config.yaml"

    @property
    def hparams(self) -> Path:
        """All settings once more, by Lightning's logger for TensorBoard."""
        return self.path / "hparams.yaml"

    @property
    def metrics(self) -> Path:
        """The curves, as a table."""
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        """What came out, as JSON."""
        return self.path / "summary.json"

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint of the best validation accuracy."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"


def folder_of_runs(log_dir: str) -> Path:
    """The folder of all runs, with ``~`` written out.

    Raises:
        UserError: that is the home of nobody.
    """
    try:
        return Path(log_dir).expanduser()
    except RuntimeError as error:
        raise UserError(f"log_dir {shown(log_dir)}: {error}") from error


def claim(log_dir: str, name: str) -> RunFolder:
    """Creates the next free version; two runs that start together get different ones.

    Raises:
        UserError: the folder cannot be written.
    """
    parent = folder_of_runs(log_dir) / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max((version_number(entry.name) for entry in os.scandir(parent)), default=-1)
        while True:
            try:
                (parent / f"version_{number}").mkdir()  # fails for all but one
                break
            except FileExistsError:
                number += 1
    except (OSError, ValueError) as error:  # the second, of a name that no folder can have
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"log_dir {shown(log_dir)}: cannot be written ({reason}). Give another --log_dir."
        ) from error
    return RunFolder(parent.parent, name, f"version_{number}")


def versions(log_dir: Path, name: str) -> list[RunFolder]:
    """The runs of a name, oldest first."""
    try:
        entries = [entry.name for entry in os.scandir(log_dir / name)]
    except OSError:
        entries = []
    found = sorted((n for n in entries if version_number(n) >= 0), key=version_number)
    return [RunFolder(log_dir, name, version) for version in found]


def placeholder(log_dir: str, name: str) -> RunFolder:
    """A folder for the processes that write nothing: all but the first."""
    return RunFolder(folder_of_runs(log_dir), name, "version_of_first_process")


def version_number(name: str) -> int:
    """N of ``version_N``; -1 for any other name."""
    found = re.fullmatch(r"version_(\d+)", name)
    return int(found[1]) if found else -1
