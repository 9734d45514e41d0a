"""Resuming a run: the choice of the run, its checkpoint and its settings.

The settings are those of the run's config.yaml. Some may change when a run is resumed (those
declared ``resumable``); one that would change what is trained, or the points of its curves, is
refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cifar_lab.errors import UserError
from cifar_lab.files import explained, read_json, read_yaml, shown
from cifar_lab.plan import RUN, Plan, RunSettings, canonical
from cifar_lab.recipes import find_recipe
from cifar_lab.run.folder import RunFolder, run_folders

NEWEST = "last"


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint from which a run is resumed. Each file is read once, when it is needed."""

    path: Path  # in the folder of the run

    @cached_property
    def folder(self) -> RunFolder:
        """The folder of the run."""
        return RunFolder.at(self.path.parent.parent)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings of the run so far, as config.yaml holds them."""
        return read_yaml(self.folder.config)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of the checkpoint, in a format that this version can resume."""
        from cifar_lab.models.classifier import CHECKPOINT_FORMAT
        from cifar_lab.run.checkpoint import read_checkpoint

        content = read_checkpoint(self.path)
        found = content["cifar_lab"]
        if found["format"] != CHECKPOINT_FORMAT:
            raise UserError(
                f"{self.path}: written by cifar_lab {shown(found.get('version'))} in format "
                f"{found['format']}; this version evaluates it, but resumes format "
                f"{CHECKPOINT_FORMAT} only"
            )
        if "global_step" not in content:
            raise UserError(f"{self.path}: holds only weights; resume last.ckpt or best.ckpt")
        return content

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv up to the step of the checkpoint; see :func:`read_rows`."""
        from cifar_lab.run.metrics import read_rows

        rows = read_rows(self.folder.metrics) if self.folder.metrics.exists() else []
        return [row for row in rows if int(row["step"]) <= self.step]

    @property
    def step(self) -> int:
        """The number of optimizer steps at the checkpoint."""
        return int(self.content["global_step"])

    def best_step(self) -> int | None:
        """Return the step of the current best.ckpt, or None if it is missing or damaged."""
        from cifar_lab.run.checkpoint import read_checkpoint

        best = self.folder.best_checkpoint
        try:
            return int(read_checkpoint(best)["global_step"])
        except UserError:
            return None

    def precision(self, device: str) -> str:
        """Return the precision that "auto" meant at first.

        On another kind of device "auto" is decided again, since it may only emulate that precision.
        """
        then = self.content["cifar_lab"]
        return str(then.get("precision", "auto")) if then.get("device") == device else "auto"


def resume_plan(
    where: str, changes: Mapping[str, Any], origin: str = "--"
) -> tuple[Plan, ResumePoint]:
    """Return the plan of a run that is resumed, and its checkpoint.

    Args:
        where: path of a checkpoint or of the folder of a run, or "last" for the newest run, in the
            ``log_dir`` and of the model that ``changes`` name.
        changes: settings to change from now on, unchecked.
        origin: prefix of the names of these settings in error messages.

    Raises:
        UserError: There is no such run or checkpoint, or a setting would change what is trained.
    """
    changes = {canonical(name): value for name, value in changes.items()}
    if "config" in changes:
        raise UserError("--resume and --config: a run is resumed with its own settings")
    with explained(f"--resume {shown(where)}: cannot be read"):
        point = ResumePoint(_newest(changes) if where == NEWEST else _checkpoint_at(where))
    if where == NEWEST:
        changes.pop("log_dir", None)  # it said where to look
    folder = point.folder
    then = Plan.from_config(point.config, f"{folder.config}: ", changes.get("model"))
    now = then.changed(changes, origin)
    _check_unchanged(folder.path, then.as_config(), now.as_config())
    return now.replace(log_dir=str(folder.log_dir)), point


def _newest(changes: Mapping[str, Any]) -> Path:
    """Return the newest last checkpoint of all runs, or of the runs of a model."""
    log_dir = Path(changes.get("log_dir", RunSettings.log_dir)).expanduser()
    if {"model", "recipe"} & changes.keys():
        told = {"model": "--model", "recipe": "--recipe"}
        model = find_recipe(changes.get("recipe"), changes.get("model"), told).model
        model = model.rpartition(":")[2]
        runs = [*run_folders(log_dir, model), *run_folders(log_dir, f"{model}-synthetic")]
        what = f"run of {model}"
    else:
        runs, what = run_folders(log_dir), "run"
    there = [run.last_checkpoint for run in runs if run.last_checkpoint.is_file()]
    if not runs:
        raise UserError(f"--resume last: no {what} in {log_dir}")
    if not there:
        raise UserError(f"{runs[-1].path}: ended before its first checkpoint; train it again")
    return max(there, key=lambda path: path.stat().st_mtime)


def _checkpoint_at(where: str) -> Path:
    """Return the checkpoint at a path; for the folder of a run, its last one."""
    path = Path(where).expanduser()
    # The folder of a run may be the current one, "."; its name is needed.
    checkpoint = (path / "checkpoints" / "last.ckpt" if path.is_dir() else path).absolute()
    if not checkpoint.is_file():
        reason = "no checkpoints/last.ckpt in it" if path.is_dir() else "no such run or checkpoint"
        raise UserError(f"--resume {shown(where)}: {reason}")
    checkpoint = checkpoint.parent.resolve() / checkpoint.name
    if not ResumePoint(checkpoint).folder.config.is_file():
        raise UserError(f"--resume {shown(where)}: not in the folder of a run (no config.yaml)")
    here = Path.cwd()  # a path below it is shown without it, as people write it
    return checkpoint.relative_to(here) if checkpoint.is_relative_to(here) else checkpoint


def _check_unchanged(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [
        f"\n  {name}: then {_text(then[name])}, now {_text(value)}"
        for name, value in now.items()
        if not (name in RUN and RUN[name].resumable) and repr(then[name]) != repr(value)
    ]
    if changed:
        lines = "".join(changed)
        raise UserError(f"{path} is resumed with its own settings; leave out:{lines}")


def _text(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


# --- before training ----------------------------------------------------------------------------


def finished_note(plan: Plan, point: ResumePoint) -> str | None:
    """Return a note if nothing is left to train, else None."""
    folder, settings = point.folder, plan.settings
    try:
        steps = int(read_json(folder.summary, {"steps": int})["steps"])
    except UserError:
        return None
    if settings.max_steps:
        limit, reached = "--max_steps", settings.max_steps <= steps
    else:
        epochs = point.config.get("max_epochs") or 0
        limit, reached = "--max_epochs", (settings.max_epochs or 0) <= epochs
    if not reached or point.step < steps:  # the run may also go back to an older step
        return None
    told = f"{folder.path} is finished, at step {steps:,}"
    has_schedule = point.content.get("lr_schedulers")
    return told if has_schedule else f"{told}; a larger {limit} resumes it"


def check_fits(plan: Plan, point: ResumePoint, data: Mapping[str, Any], processes: int) -> None:
    """Refuse a checkpoint that does not fit the run, before the run is changed.

    ``data`` is ``CIFAR10DataModule.identity``, and ``processes`` the number of training processes.
    """
    added = point.content["cifar_lab"]
    for what, then, now in (
        ("data", _listed(added.get("data", {})), _listed(data)),
        ("processes", added.get("processes", processes), processes),
    ):
        if then != now:
            raise UserError(f"{point.path}: the checkpoint has {what} {then}; this run has {now}")
    _check_length(plan, point)


def _listed(identity: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(identity.items()))


def _check_length(plan: Plan, point: ResumePoint) -> None:
    """Refuse a new length that is already reached: nothing would be left to train.

    Refuse any new length of a run with a learning-rate schedule, since the rates would jump.
    """
    epochs = int(point.content["epoch"])  # that are over
    for flag, reached in (("max_steps", point.step), ("max_epochs", epochs)):
        then, limit = point.config.get(flag), getattr(plan.settings, flag)
        if limit in (None, then):
            continue
        if point.content.get("lr_schedulers"):
            raise UserError(
                f"{point.folder.path}: its learning-rate schedule covers the whole run ({flag}: "
                f"then {then}, now {limit}); train it again"
            )
        if reached >= limit:
            raise UserError(
                f"{point.path}: at step {point.step:,}, after {epochs} epochs; --{flag} {limit} "
                "leaves nothing to train"
            )
