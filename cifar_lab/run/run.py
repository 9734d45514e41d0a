"""A run on disk as a Python object: ``Run.open("lightning_logs/cnn/version_0")``."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_lab.errors import UserError
from cifar_lab.files import check_local, explained, read_yaml, shown
from cifar_lab.plan import Plan
from cifar_lab.run.folder import RunFolder, folder_of_runs, run_folders
from cifar_lab.run.metrics import read_rows
from cifar_lab.run.summary import accuracy_on_test, read_summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cifar_lab.models.classifier import ImageClassifier

Curve = tuple[np.ndarray, np.ndarray]


class Run:
    """A run on disk. Each of its files is read once, when it is first needed.

    Args:
        folder: paths of its files.
        model: ``module:Class`` of the trained model if it is the user's own, else None.
    """

    def __init__(self, folder: RunFolder, model: str | None = None) -> None:
        self.folder, self.model = folder, model

    @classmethod
    def open(cls, path: str | Path, model: str | None = None) -> Run:
        """Return the run in a folder, finished or not.

        Args:
            path: folder of the run, ``<log_dir>/<name>/version_N``.
            model: ``module:Class`` of the trained model if it is your own. A name in a file of the
                run is never imported.

        Raises:
            UserError: The folder is not that of a run.
        """
        folder = RunFolder.at(Path(path).expanduser().absolute())
        if not folder.config.is_file():
            raise UserError(f"{shown(path)}: not the folder of a run (no config.yaml)")
        return cls(folder, model)

    def __repr__(self) -> str:
        return f"<Run {self.path}, {'finished' if self.finished else 'unfinished'}>"

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self.folder.path

    @property
    def finished(self) -> bool:
        """Whether the run finished, and its summary was written."""
        return self.folder.summary.exists()

    @cached_property
    def config(self) -> dict[str, Any]:
        """All settings, as config.yaml holds them."""
        return read_yaml(self.folder.config)

    @cached_property
    def plan(self) -> Plan:
        """All settings, checked.

        Raises:
            UserError: config.yaml is damaged, or names a model that is not one of the package's.
        """
        return Plan.from_config(self.config, f"{self.folder.config}: ", self.model)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; see ``cifar_lab.run.summary.Summary``.

        Raises:
            UserError: The run is not finished, or the file is damaged.
        """
        if not self.finished:
            raise UserError(f"{self.path}: not finished, so it has no summary.json")
        return read_summary(self.folder.summary)

    @property
    def accuracy(self) -> float:
        """The test accuracy, a fraction: of the best checkpoint, or else of the last point.

        Raises:
            UserError: The run is not finished, or it was not tested.
        """
        found = accuracy_on_test(self.summary["accuracy"])
        if found is None:
            raise UserError(f"{self.path}: was not tested (--test false)")
        return found

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """The scalars of metrics.csv by tag: steps int64 (N,) and values float64 (N,).

        Raises:
            UserError: The file is missing or damaged.
        """
        rows = read_rows(self.folder.metrics)
        tags = dict.fromkeys(tag for row in rows for tag in row if tag != "step")
        return {tag: _curve(rows, tag) for tag in tags}

    def checkpoint(self, which: str = "best") -> Path:
        """Return the path of a checkpoint.

        Args:
            which: "best" (the last one if none was selected) or "last".

        Raises:
            UserError: There is no such checkpoint.
        """
        if which not in ("best", "last"):
            raise UserError(f"checkpoint {which!r}: expected best or last")
        best, last = self.folder.best_checkpoint, self.folder.last_checkpoint
        found = best if which == "best" and best.is_file() else last
        if not found.is_file():
            raise UserError(f"{self.path}: no checkpoint yet")
        return found

    def load_model(self, which: str = "best", accelerator: str = "auto") -> ImageClassifier:
        """Return the trained model in ``eval`` mode, on its device.

        Args:
            which: checkpoint, as for :meth:`checkpoint`.
            accelerator: "auto", "cpu", "gpu" or "mps".

        Raises:
            UserError: There is no such checkpoint, it is damaged, or the accelerator is not there.
        """
        from cifar_lab.run.restore import load_model

        return load_model(self.checkpoint(which), accelerator, self.model)

    def plot(self) -> Figure:
        """Return a figure of accuracy and loss over the steps; see ``cifar_lab.plot``.

        Raises:
            UserError: The run has no points yet, or a file is damaged.
        """
        from cifar_lab.run.curves import plot

        return plot([self])


def _curve(rows: list[dict[str, str]], tag: str) -> Curve:
    points = [(int(row["step"]), float(row[tag])) for row in rows if row.get(tag)]
    steps, values = zip(*points, strict=True) if points else ((), ())
    return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)


def runs(log_dir: str | Path = "lightning_logs") -> list[Run]:
    """Return the runs in a log folder, finished or not, the oldest version of each model first.

    Args:
        log_dir: folder of all runs.

    Raises:
        UserError: There is no such folder.
    """
    folder = folder_of_runs(log_dir)
    if not folder.is_dir():
        raise UserError(f"{shown(log_dir)}: no such folder")
    found = [Run(run) for run in run_folders(folder) if run.config.is_file()]
    return sorted(found, key=lambda run: run.folder.name)


def runs_in(path: str | Path) -> list[Run]:
    """Return the run in a folder, or all runs of a model's folder or of a log folder.

    The oldest version comes first; there may be none.

    Raises:
        UserError: There is no such folder.
    """
    check_local(path, "runs")
    with explained(f"{shown(path)}: no such folder"):
        folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{shown(path)}: no such folder")
    if (folder / "config.yaml").is_file():
        return [Run.open(folder)]
    named = run_folders(folder.parent, folder.name)
    return [Run(run) for run in named if run.config.is_file()] or runs(folder)
