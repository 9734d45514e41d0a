"""The folder of a run, locked: a new one, or that of a run that goes on from its checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.atomic import write_atomically
from cifar_lab.checkpoint_file import read_checkpoint
from cifar_lab.config_file import read_config
from cifar_lab.dashboards.metrics_csv import read_rows
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.devices import device_kind
from cifar_lab.errors import UserError
from cifar_lab.files import read_json
from cifar_lab.parsing import FitPlan
from cifar_lab.settings import FitSettings
from cifar_lab.training import run_folder
from cifar_lab.training.resume import folder_of
from cifar_lab.training.run_folder import RunFolder
from cifar_lab.training.run_lock import locked


@dataclass(frozen=True)
class OpenRun:
    """A run that this process writes.

    Attributes:
        folder: of the run.
        checkpoint: to go on from, or None.
        step: of that checkpoint, or 0.
    """

    folder: RunFolder
    checkpoint: Path | None = None
    step: int = 0


def settings_of(plan: FitPlan) -> FitSettings:
    """The settings of a plan; a run that goes on keeps the precision that "auto" meant at first.

    On another kind of device "auto" is decided anew: it may only emulate that precision.

    Raises:
        UserError: the checkpoint cannot be read, or the accelerator is not there.
    """
    settings = plan.settings
    if plan.checkpoint is None or settings.precision != "auto":
        return settings
    then = read_checkpoint(plan.checkpoint)["cifar_lab"]
    if then.get("device") != device_kind(settings.accelerator):
        return settings
    precision: Any = str(then.get("precision", "auto"))
    return dataclasses.replace(settings, precision=precision)


def finished(plan: FitPlan) -> str | None:
    """In a line, that there is nothing to go on with; None where there is.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    assert plan.checkpoint is not None
    folder, settings = folder_of(plan.checkpoint), plan.settings
    try:
        steps = int(read_json(folder.summary, {"steps": int})["steps"])
        epochs = read_config(str(folder.config)).get("max_epochs")
    except UserError:
        return None
    checkpoint = read_checkpoint(plan.checkpoint)
    if int(checkpoint["global_step"]) < steps:
        return None  # it goes back to that step
    if settings.max_steps:
        limit, reached = "--max_steps", settings.max_steps <= steps
    else:
        limit, reached = "--max_epochs", (settings.max_epochs or 0) <= (epochs or 0)
    if not reached:
        return None
    told = f"{folder.path} is finished, at step {steps:,}"
    return told if checkpoint.get("lr_schedulers") else f"{told}; a larger {limit} goes on"


@contextlib.contextmanager
def open_run(plan: FitPlan, data: CIFAR10DataModule, trainer: Trainer) -> Iterator[OpenRun]:
    """Gives the run of a plan, with its config.yaml written, and holds its lock.

    Processes but the first get a folder that is never written to.

    Raises:
        UserError: the folder cannot be written, another process has it, or the checkpoint does not
            fit: damaged, other data, another number of processes, behind the last step.
    """
    name = plan.recipe.model
    if data.image_set.source == "synthetic":
        name += "-synthetic"  # so that nobody takes its numbers for CIFAR-10's
    if rank_zero_only.rank != 0:
        step = _step(plan, data, trainer) if plan.checkpoint else 0
        folder = run_folder.placeholder(plan.settings.log_dir, name)
        yield OpenRun(folder, plan.checkpoint, step)
        return
    old = folder_of(plan.checkpoint) if plan.checkpoint else None
    folder = old or run_folder.claim(plan.settings.log_dir, name)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder.path))
            run = _reopen(plan, data, trainer) if old else OpenRun(folder)
            write_atomically(folder.config, plan.as_yaml().encode("utf-8"))
        except OSError as error:
            raise UserError(f"{folder.path}: cannot be written ({error.strerror})") from error
        try:
            yield run
        except UserError:
            if not old and not folder.last_checkpoint.exists():  # refused before it began
                shutil.rmtree(folder.path, ignore_errors=True)
            raise


def _reopen(plan: FitPlan, data: CIFAR10DataModule, trainer: Trainer) -> OpenRun:
    """Makes the checkpoint the run's last one, and the run unfinished."""
    assert plan.checkpoint is not None
    folder = folder_of(plan.checkpoint)
    step = _step(plan, data, trainer)
    if folder.metrics.exists():
        read_rows(folder.metrics)  # before anything is changed
    if plan.checkpoint.name != folder.last_checkpoint.name:
        write_atomically(folder.last_checkpoint, plan.checkpoint.read_bytes())
    folder.summary.unlink(missing_ok=True)
    folder.hparams.unlink(missing_ok=True)  # which Lightning writes where it is not there
    for part in folder.path.rglob("*.part"):  # half written when a process died
        part.unlink()
    return OpenRun(folder, folder.last_checkpoint, step)


def _step(plan: FitPlan, data: CIFAR10DataModule, trainer: Trainer) -> int:
    """The step of the checkpoint, which is looked at here before anything of the run changes."""
    assert plan.checkpoint is not None
    content = read_checkpoint(plan.checkpoint)
    added, step = content["cifar_lab"], int(content["global_step"])
    _check_same(plan.checkpoint, "data", _data(added.get("data", {})), _data(data.identity))
    processes = added.get("processes", trainer.world_size)
    _check_same(plan.checkpoint, "processes", processes, trainer.world_size)
    _check_length(plan, step, content)
    return step


def _check_length(plan: FitPlan, step: int, content: dict[str, Any]) -> None:
    """Refuses a new length that the checkpoint has reached: nothing would be left to train.

    And any other length where a schedule of learning rates was planned over the old one: the rates
    would jump, and the run would not be what its config.yaml says.
    """
    assert plan.checkpoint is not None
    folder = folder_of(plan.checkpoint)
    then = read_config(str(folder.config))
    epochs = int(content["epoch"])  # that are over
    for flag, reached in (("max_steps", step), ("max_epochs", epochs)):
        limit = getattr(plan.settings, flag)
        if limit in (None, then.get(flag)):
            continue
        if content.get("lr_schedulers"):
            raise UserError(
                f"{folder.path}: its rates are planned over the whole run ({flag}: then "
                f"{then.get(flag)}, now {limit}); train anew"
            )
        if reached >= limit:
            where = f"step {step:,}, behind {epochs} epochs"
            raise UserError(f"{plan.checkpoint}: at {where}; --{flag} {limit} leaves nothing to do")


def _data(identity: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(identity.items()))


def _check_same(path: Path, what: str, then: Any, now: Any) -> None:
    if then != now:
        raise UserError(f"{path}: the checkpoint has {what} {then}; this run has {now}")
