"""Training: from a plan to a run on disk."""

import contextlib
import dataclasses
import inspect
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.devices import device_kind, use_threads
from cifar_lab.errors import FAILED, PIPE_CLOSED, TrainingEndedError, UserError, first_line
from cifar_lab.files import copy_file, explained, make_folder, write_atomically
from cifar_lab.models import REGISTRY
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.curves import Curves, NotFiniteError
from cifar_lab.plan import Plan
from cifar_lab.recipes.own_model import import_model, is_own_model
from cifar_lab.run.folder import RunFolder, claim, folder_of_runs
from cifar_lab.run.resume import ResumePoint, check_fits, finished_note, resume_plan
from cifar_lab.run.run import Run
from cifar_lab.training.console import quiet
from cifar_lab.training.job import Job
from cifar_lab.training.loggers import check_loggers
from cifar_lab.training.outcome import Outcome
from cifar_lab.training.trainer import build_trainer, device_count, fit_model


def fit(
    model: str | type | None = None, *, resume: str | Path | None = None, **settings: Any
) -> Run:
    """Train a model, or resume a run: the command ``cifar-lab fit`` from Python.

    Ctrl-C finishes the step, writes a checkpoint and returns the unfinished run; a second Ctrl-C
    returns at once.

    Args:
        model: name of a model, ``module:Class`` or the class of your own; the default is "cnn".
        resume: folder of a run, one of its checkpoints, or "last", to resume it.
        settings: settings of the run and of the model, by the names of the flags.

    Returns:
        The run on disk. ``run.finished`` is False if a signal ended it.

    Raises:
        UserError: A setting, the data or the hardware is wrong, or the run cannot be resumed.
        TrainingEndedError: The training failed, for example because its loss was not finite.
    """
    point = None
    if resume is None:
        plan = Plan.of(model, **settings)
        called = plan.as_call()
    else:
        named = {} if model is None else {"model": model}
        plan, point = resume_plan(str(resume), {**named, **settings}, "")
        called = _call_to_resume(plan, point.folder.path)
    outcome = train(plan, point, command=called)
    if outcome.status in (FAILED, PIPE_CLOSED):
        raise TrainingEndedError(outcome.message, outcome.status)
    if outcome.run is None:
        raise UserError("fast_dev_run: nothing was written, so there is no run to return")
    if outcome.status:
        again = f" To resume it: {_call_to_resume(plan, outcome.run.path)}"
        print(f"\n{outcome.message}{again if outcome.resumable else ''}", file=sys.stderr)
    return outcome.run


def _call_to_resume(plan: Plan, path: Path) -> str:
    model = f"{plan.own_model!r}, " if plan.own_model else ""
    return f"cifar_lab.fit({model}resume={str(path)!r})"


def train(
    plan: Plan,
    point: ResumePoint | None = None,
    *,
    command: str,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Train and evaluate a model, and write the folder of a new run or of the run of ``point``.

    The summary of the run names ``command``, the command or the call that started it.

    Raises:
        UserError: A setting, the data or the hardware is wrong, or the run cannot be resumed.
    """
    check_loggers(plan.settings.logger)
    start = time.perf_counter()
    quiet()
    seed_everything(plan.settings.seed, verbose=False)
    settings, cpu_only = plan.settings, model_class_of(plan).cpu_only
    if point and settings.precision == "auto":  # what it meant at first
        precision: Any = point.precision(device_kind(settings.accelerator))
        settings = dataclasses.replace(settings, precision=precision)
    threads = torch.get_num_threads()
    accelerator = "cpu" if cpu_only else settings.accelerator
    use_threads(settings.threads, device_count(settings.devices, accelerator))
    try:
        trainer = build_trainer(settings, cpu_only=cpu_only)  # first: it knows the process's rank
        if point and (note := finished_note(plan, point)):
            rank_zero_only(print)(note)
            return Outcome(Run(point.folder, plan.own_model))
        data = load_data(plan)
        model = build_model(plan, data.num_classes)
        model.check_trainer(trainer)
        if settings.fast_dev_run:
            return _try_once(model, data, trainer)
        with _opened(plan, point, data, trainer) as folder:
            run = Run(folder, plan.own_model)
            job = Job(plan, data, model, trainer, run, point, command, callbacks, start)
            return job.run()
    finally:
        use_threads(threads)
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()  # its threads may abort at the end otherwise


def load_data(plan: Plan) -> CIFAR10DataModule:
    """Return the DataModule of a plan, set up with its images."""
    settings = vars(plan.settings)
    names = set(inspect.signature(CIFAR10DataModule).parameters) & set(settings)
    data = CIFAR10DataModule(**{name: settings[name] for name in names})
    data.prepare_data()
    data.setup()
    return data


def model_class_of(plan: Plan) -> Any:
    """Return the class of the model of a plan."""
    name = plan.recipe.model
    return import_model(name) if is_own_model(name) else REGISTRY[name]


def build_model(plan: Plan, num_classes: int) -> ImageClassifier:
    """Return the untrained model of a plan; raise a UserError if its settings are wrong."""
    name = plan.recipe.model
    try:
        return model_class_of(plan)(**plan.model_settings, num_classes=num_classes)
    except UserError:
        raise
    except (MemoryError, OverflowError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{name}: cannot be built ({first_line(error)})") from error


def _try_once(model: ImageClassifier, data: CIFAR10DataModule, trainer: Trainer) -> Outcome:
    """Train one step and evaluate once, without writing anything."""
    trainer.callbacks += [Curves(stop_if_not_finite=True)]
    try:
        fit_model(trainer, model, data)
    except NotFiniteError as error:
        return Outcome(None, FAILED, f"fast_dev_run: {error}")
    rank_zero_only(print)("fast_dev_run: one step and one evaluation passed; nothing was written.")
    return Outcome(None)


@contextlib.contextmanager
def _opened(
    plan: Plan, point: ResumePoint | None, data: CIFAR10DataModule, trainer: Trainer
) -> Iterator[RunFolder]:
    """Yield the folder of the run, with its config.yaml written, and hold its lock.

    All processes but the first get a folder that is never written to.
    """
    if point:
        check_fits(plan, point, data.identity, trainer.world_size)
    name = plan.recipe.model.rpartition(":")[2]
    if data.image_set.source == "synthetic":
        name += "-synthetic"  # so that nobody takes its numbers for CIFAR-10's
    if rank_zero_only.rank != 0:
        yield RunFolder(folder_of_runs(plan.settings.log_dir), name, "version_of_first_process")
        return
    folder = point.folder if point else claim(plan.settings.log_dir, name)
    with contextlib.ExitStack() as stack:
        with explained(f"{folder.path}: cannot be written"):
            stack.enter_context(folder.locked())
            if point:
                _reopen(point)
            write_atomically(folder.config, plan.as_yaml().encode("utf-8"))
        try:
            yield folder
        except UserError:
            if not point and not folder.last_checkpoint.exists():  # refused before it began
                shutil.rmtree(folder.path, ignore_errors=True)
            raise


def _reopen(point: ResumePoint) -> None:
    """Make the checkpoint the run's last one, and the run unfinished."""
    folder = point.folder
    _ = point.rows  # a damaged table is refused before anything is changed
    make_folder(folder.last_checkpoint.parent)
    if point.path.name != folder.last_checkpoint.name:
        copy_file(point.path, folder.last_checkpoint)
    folder.summary.unlink(missing_ok=True)
    folder.traceback.unlink(missing_ok=True)
    folder.hparams.unlink(missing_ok=True)  # Lightning writes it only where it is missing
    for part in folder.path.rglob("*.part"):  # half written when a process died
        part.unlink()
