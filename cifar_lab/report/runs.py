"""The runs behind the report: those that are there already, and those that must be trained.

A run is what ``scripts/fit.py`` leaves: a folder with ``config.yaml``, ``metrics.csv`` and, once it
is finished, ``summary.json``. Any such run with the settings and the images that are wanted is
taken.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.checkpoint_file import read_checkpoint
from cifar_lab.config_file import read_config
from cifar_lab.dashboards.metrics_csv import read_rows
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.parsing import FitPlan
from cifar_lab.settings import FitSettings
from cifar_lab.training.console import quiet
from cifar_lab.training.fit import build_data, run_fit
from cifar_lab.training.run_folder import folder_of_runs, version_number
from cifar_lab.training.run_lock import is_locked
from cifar_lab.training.summary import read_summary
from cifar_lab.training.trainer import build_trainer

# What decides neither the numbers of a run nor the points of its curves. Where images come from
# does not, if they are the same.
HARMLESS = (
    "data_dir",
    "source",
    "mirror",
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

    def saw(self, images: str | None) -> bool:
        """Whether these, by their fingerprint, are its images; None are any."""
        return images in (None, self.summary["data"]["fingerprint"])

    def curve(self, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps int64 (N,) and values float64 (N,) of a scalar, where it was written.

        Raises:
            UserError: the run has no metrics.csv, or a damaged one.
        """
        points = [(int(row["step"]), float(row[tag])) for row in self._rows if row.get(tag)]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        return read_rows(self.path / "metrics.csv")


def images_of(plan: FitPlan) -> str:
    """The fingerprint of the images that a plan trains on, for runs one after the other.

    Raises:
        UserError: there are none, or only synthetic ones where a run on others is there; or the
            plan wants several processes, of which all but the first would end with the first run.
    """
    _check_one_process(plan.settings)
    data = build_data(plan)
    data.prepare_data()
    data.setup()
    if data.image_set.source == "synthetic" and plan.settings.source == "auto":
        run = find(plan)
        if run is not None and run.summary["data"]["source"] != "synthetic":
            where = run.summary["data"]["location"]
            raise UserError(
                f"{run.path}: on images of {where}, which are not found now; say with --data_dir "
                "where they are, or give --source synthetic"
            )
    return data.image_set.fingerprint


def find(plan: FitPlan, images: str | None = None) -> Run | None:
    """The newest finished run in the log folder of a plan with its settings, or None.

    Args:
        plan: with the settings.
        images: fingerprint of those that the run must have seen; None for any.

    Raises:
        UserError: a file of a run there cannot be read.
    """
    wanted = decisive(plan.as_config())
    finished = (folder for folder in _folders(plan) if (folder / "summary.json").exists())
    runs = map(_read, finished)
    return next((r for r in runs if decisive(r.config) == wanted and r.saw(images)), None)


def decisive(config: dict[str, Any]) -> dict[str, str]:
    """The settings that decide the numbers, as text: 1 and 1.0 differ, one batch and all of them.

    Settings of a run that an older one does not know are default; those of a model are not, as
    they came with another model.
    """
    whole = {**vars(FitSettings()), **config}
    return {name: repr(value) for name, value in whole.items() if name not in HARMLESS}


def find_or_train(plan: FitPlan, images: str) -> Run:
    """The run of a plan, trained if it is not there.

    Raises:
        UserError: settings or data that are wrong.
        TrainingEndedError: the training failed or was interrupted.
    """
    return find(plan, images) or train(plan, images)


def train(plan: FitPlan, images: str, *, anew: bool = False) -> Run:
    """Trains a plan, or goes on with a run of it that was interrupted; gives the finished run.

    Args:
        plan: with the settings.
        images: their fingerprint.
        anew: never go on, because seconds are measured.

    Raises:
        UserError: settings or data that are wrong.
        TrainingEndedError: the training failed or was interrupted.
    """
    checkpoint = None if anew else _checkpoint_of(plan, images)
    if status := run_fit(replace(plan, checkpoint=checkpoint)):
        raise TrainingEndedError(status)
    run = find(plan, images)
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


def _check_one_process(settings: FitSettings) -> None:
    if (settings.devices, settings.num_nodes) == ("1", 1):
        return  # needs no hardware, where all runs are there
    quiet()
    processes = build_trainer(settings, cpu_only=False).world_size
    if processes > 1:
        raise UserError(
            "--devices and --num_nodes: runs one after the other are trained by one process, "
            f"these ask for {processes}"
        )


def _checkpoint_of(plan: FitPlan, images: str) -> Path | None:
    """The last checkpoint of the newest unfinished run of a plan on these images, or None."""
    wanted = decisive(plan.as_config())
    for folder in _folders(plan):
        config, checkpoint = folder / "config.yaml", folder / "checkpoints" / "last.ckpt"
        if (folder / "summary.json").exists() or not (config.exists() and checkpoint.exists()):
            continue
        if is_locked(folder):  # another process trains it
            continue
        try:
            if decisive(read_config(str(config))) == wanted:
                data = read_checkpoint(checkpoint)["cifar_lab"]["data"]
                if data.get("fingerprint") == images:
                    return checkpoint
        except UserError as error:
            print(f"{folder} does not go on: {error}", file=sys.stderr)
    return None


def _folders(plan: FitPlan) -> list[Path]:
    """The folders of runs in the log folder of a plan, of each model the newest first."""
    found = folder_of_runs(plan.settings.log_dir).glob("*/version_*")
    folders = [folder for folder in found if version_number(folder.name) >= 0]
    return sorted(folders, key=lambda folder: version_number(folder.name), reverse=True)


def _read(folder: Path) -> Run:
    try:
        config = read_config(str(folder / "config.yaml"))
        return Run(folder, config, read_summary(folder / "summary.json"))
    except UserError as error:
        raise UserError(f"a damaged run: {error}; remove {folder} to train it anew") from error
