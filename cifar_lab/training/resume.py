"""``--resume``: which run goes on, from which checkpoint, and with which settings.

The settings are those of the run's config.yaml. Flags may change where and for how long it runs;
one that would change what is trained, or the points of its curves, is refused. Imports nothing
heavy: the command line calls this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_lab.config_file import read_config
from cifar_lab.errors import UserError
from cifar_lab.files import shown
from cifar_lab.parsing import FitPlan, check_settings, choose_recipe, make_plan, split_flags
from cifar_lab.settings import FitSettings
from cifar_lab.training.run_folder import RunFolder, versions

# What a run that goes on may be told anew; config.yaml then has the new value.
CHANGEABLE = (
    "max_steps",
    "max_epochs",
    "accelerator",
    "devices",
    "strategy",
    "num_nodes",
    "data_dir",
    "source",
    "mirror",
    "verify_data",
    "progress",
    "dashboard",
    "profiler",
    "checkpoint_minutes",
)


NEWEST = ("last", "true")  # what --resume says for the newest run; "true" if nothing


def plan_resume(argv: Sequence[str]) -> FitPlan:
    """The plan of a run that goes on.

    Raises:
        UserError: no such run or checkpoint, or a flag that would change what is trained.
    """
    flags = split_flags(argv)
    where = flags.pop("resume")
    if "config" in flags:
        raise UserError("--resume and --config: a run goes on with its own settings")
    checkpoint = _checkpoint(where, flags)
    if where in NEWEST:
        flags.pop("log_dir", None)  # it said where to look
    folder = folder_of(checkpoint)
    config = read_config(str(folder.config))
    recipe = choose_recipe({}, config, f"{folder.config}: ")
    then = {**vars(FitSettings()), **recipe.settings}
    then.update(check_settings(config, recipe, f"{folder.config}: "))
    now = check_settings(flags, recipe, "--")
    _check_unchanged(folder, then, now)
    plan = make_plan({**then, **now, "log_dir": str(folder.log_dir)}, recipe)
    return dataclasses.replace(plan, checkpoint=checkpoint)


def folder_of(checkpoint: Path) -> RunFolder:
    """The folder of the run that a checkpoint is of."""
    run = checkpoint.parent.parent
    return RunFolder(run.parent.parent, run.parent.name, run.name)


def _checkpoint(where: str, flags: Mapping[str, str]) -> Path:
    """The checkpoint that ``--resume`` means."""
    try:
        return _newest(flags) if where in NEWEST else _find(where)
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # no path, or the home of nobody
        raise UserError(f"--resume {shown(where)}: {shown(error)}") from error


def _newest(flags: Mapping[str, str]) -> Path:
    """The newest last checkpoint of all runs; of those of a model, if the flags name one."""
    log_dir = Path(flags.get("log_dir", FitSettings.log_dir)).expanduser()
    if {"model", "recipe"} & flags.keys():
        model = choose_recipe(flags, {}).model
        names, what = [model, f"{model}-synthetic"], f"run of {model}"
    else:
        names, what = sorted(path.name for path in log_dir.glob("*")), "run"
    runs = [run for name in names for run in versions(log_dir, name)]
    there = [run.last_checkpoint for run in runs if run.last_checkpoint.is_file()]
    if not runs:
        raise UserError(f"--resume last: no {what} in {log_dir}")
    if not there:
        raise UserError(f"{runs[-1].path}: ended before its first checkpoint; start anew")
    return max(there, key=lambda path: path.stat().st_mtime)


def _find(where: str) -> Path:
    """The checkpoint that a path means; of a run's folder the last."""
    path = Path(where).expanduser()
    # A run folder may be the present one, "."; its name is needed.
    checkpoint = (path / "checkpoints" / "last.ckpt" if path.is_dir() else path).absolute()
    if not checkpoint.is_file():
        reason = "no checkpoints/last.ckpt in it" if path.is_dir() else "no such run or checkpoint"
        raise UserError(f"--resume {shown(where)}: {reason}")
    checkpoint = checkpoint.parent.resolve() / checkpoint.name
    if not folder_of(checkpoint).config.is_file():
        raise UserError(f"--resume {shown(where)}: not in the folder of a run (no config.yaml)")
    return _as_given(checkpoint)


def _as_given(path: Path) -> Path:
    """A path below the present folder without it, as people write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _check_unchanged(folder: RunFolder, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [
        f"  {name}: then {_text(then.get(name))}, now {_text(value)}"
        for name, value in now.items()
        if name not in CHANGEABLE and repr(then.get(name)) != repr(value)  # 1 is not 1.0
    ]
    if changed:
        lines = "\n".join(changed)
        raise UserError(f"{folder.path} goes on with its own settings; leave these out:\n{lines}")


def _text(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
