"""The runs behind the report: those that are there already, and those that must be trained.

A run is what ``scripts/fit.py`` leaves: a folder with ``config.yaml``, ``metrics.csv`` and, once it
is finished, ``summary.json``. Any such run with the settings that are wanted is taken.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.config_file import read_config
from cifar_lab.errors import UserError
from cifar_lab.parsing import FitPlan
from cifar_lab.settings import FitSettings
from cifar_lab.training.fit import run_fit

# What decides neither the numbers of a run nor the points of its curves.
HARMLESS = (
    "data_dir",
    "source",
    "log_dir",
    "progress",
    "dashboard",
    "profiler",
    "verify_data",
    "checkpoint_minutes",
)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        config: all its settings.
        summary: what came out.
    """

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    def curve(self, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 (N,) and values float64 (N,) of a scalar, where it was written."""
        points = [(int(row["step"]), float(row[tag])) for row in self._rows if row.get(tag)]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        with (self.path / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))


def finished_runs(folder: Path) -> list[Run]:
    """The finished runs in a log folder, oldest version first.

    Raises:
        UserError: a file of one cannot be read.
    """
    summaries = sorted(folder.glob("*/version_*/summary.json"), key=_version)
    return [_read(path.parent) for path in summaries]


def matching(runs: list[Run], plan: FitPlan) -> Run | None:
    """The newest run with the settings of a plan, or None."""
    wanted = _decisive(plan.as_config())
    return next((run for run in reversed(runs) if _decisive(run.config) == wanted), None)


def trained(plan: FitPlan) -> Run:
    """Trains a plan; gives the finished run.

    Raises:
        UserError: settings or data that are wrong.
        SystemExit: the training failed or was interrupted, with its exit status.
    """
    if status := run_fit(plan):
        raise SystemExit(status)
    run = matching(finished_runs(Path(plan.settings.log_dir)), plan)
    assert run is not None
    return run


def check_same_images(runs: list[Run]) -> None:
    """Refuses runs that saw different images.

    Raises:
        UserError: they did.
    """
    images = {run.summary["data"]["fingerprint"] for run in runs}
    if len(images) > 1:
        raise UserError(
            f"the runs saw different images (fingerprints {', '.join(sorted(images))}); give "
            "another --log_dir, so that they are kept apart"
        )


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the numbers; those that an older run does not know are default."""
    whole = {**vars(FitSettings()), **config}
    return {name: value for name, value in whole.items() if name not in HARMLESS}


def _read(folder: Path) -> Run:
    try:
        config = read_config(str(folder / "config.yaml"))
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        return Run(folder, config, dict(summary))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: a damaged run ({error}); remove it to train it anew") from error


def _version(path: Path) -> tuple[str, int]:
    return path.parts[-3], int(path.parts[-2].rpartition("_")[2])
