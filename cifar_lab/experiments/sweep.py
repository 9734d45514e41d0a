"""A sweep: trials with different settings, chosen by Optuna on the validation split.

A trial is a run for each seed, in the folder of the sweep; its value is the mean best accuracy on
the validation split. Whatever is killed, the same sweep goes on: a trial whose process is gone is
queued again with the same values, and its run is resumed. The test set is read once, for the
winner. Workers must share the folder; they may be on several machines.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, product
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from pytorch_lightning import Callback, LightningModule, Trainer

from cifar_lab.errors import FAILED, TrainingEndedError, UserError, first_line
from cifar_lab.experiments.space import Space, describe_params, plan_of_params
from cifar_lab.experiments.study import Study
from cifar_lab.files import explained
from cifar_lab.plan import Plan
from cifar_lab.run.folder import LockedError, folder_of_runs, locked
from cifar_lab.run.run import Run

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "hyperband")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
RESUMES = "resumes"  # attribute of a trial: number of the lost one whose run it resumes


class Pruning(Callback):
    """Report the accuracy of each evaluation, and end a trial that is not worth going on."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the accuracy on the validation split.

        Raises:
            optuna.TrialPruned: The pruner ends the trial.
        """
        self.trial.report(float(trainer.callback_metrics["acc/val"]), trainer.global_step)
        if self.trial.should_prune():
            raise optuna.TrialPruned


@dataclass(frozen=True)
class Sweep:
    """What is searched, and how.

    Attributes:
        name: name of the study, and of its folder in the log folder of the plan.
        plan: settings that all trials share.
        space: distributions of the settings that are searched.
        words: the space as it was given.
        seeds: seeds of each trial.
        trials: number of trials.
        sampler: one of ``SAMPLERS``.
        pruner: one of ``PRUNERS``.
        storage: address of a database, or None for a file in the folder.
        command: command that the sweep was started with.
    """

    name: str
    plan: Plan = field(repr=False)
    space: Space
    words: Sequence[str]
    seeds: Sequence[int]
    trials: int
    sampler: str = "tpe"
    pruner: str = "none"
    storage: str | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if self.plan.settings.val_size == 0:
            raise UserError("--val_size 0: a sweep would select on the test set")
        if self.sampler == "grid" and self._choices.keys() != self.space.keys():
            raise UserError("--sampler grid: give choices such as lr=0.01,0.1 instead of a range")

    @property
    def folder(self) -> Path:
        """The folder of all runs of the sweep."""
        return folder_of_runs(self.plan.settings.log_dir) / self.name

    @property
    def _choices(self) -> dict[str, list[Any]]:
        found = self.space.items()
        return {n: list(d.choices) for n, d in found if isinstance(d, CategoricalDistribution)}

    @property
    def size(self) -> int:
        """The number of trials; a grid has no more than its points."""
        if self.sampler != "grid":
            return self.trials
        return min(self.trials, prod(map(len, self._choices.values())))

    @cached_property
    def images(self) -> str:
        """The fingerprint of the images of all trials."""
        return Study({"": self.plan}, self.seeds, self.command).images

    def open(self) -> optuna.Study:
        """Open the study, or create it.

        Raises:
            UserError: The folder or the database cannot be used, or the study has other settings.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with explained(f"log_dir {self.folder}: cannot be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
        storage: Any = self.storage
        if storage is None:
            storage = JournalStorage(JournalFileBackend(str(self.folder / "study.journal")))
        try:
            study = optuna.create_study(
                storage=storage,
                study_name=self.name,
                direction="maximize",
                load_if_exists=True,
            )
            self._check_settings(study)
            study.sampler = self._make_sampler(len(study.get_trials(deepcopy=False)))
            study.pruner = self._make_pruner()
            return study
        except UserError:
            raise
        except Exception as error:  # a database may raise whatever its driver does
            where = f"--storage {storage}" if self.storage else str(self.folder)
            raise UserError(f"{where}: cannot be opened ({first_line(error)})") from error

    def _check_settings(self, study: optuna.Study) -> None:
        settings: dict[str, Any] = {"space": sorted(self.words), "seeds": [*self.seeds]}
        decisive = self.plan.decisive().items()
        settings |= {name: value for name, value in decisive if name not in self.space}
        settings["images"] = self.images
        known = study.user_attrs.get("settings")
        if known is None:
            study.set_user_attr("settings", settings)
            return
        differing = sorted(n for n in known.keys() | settings if known.get(n) != settings.get(n))
        if differing:
            raise UserError(
                f"--study {self.name}: a study with other settings is there (they differ in "
                f"{', '.join(differing)}); give another --study"
            )

    def _make_sampler(self, seen: int) -> Any:
        """Return the sampler; a sweep that goes on must not draw the same values again."""
        seed = self.plan.settings.seed + 1000 * seen
        if self.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return optuna.samplers.RandomSampler(seed)

    def _make_pruner(self) -> optuna.pruners.BasePruner:
        if self.pruner == "median":
            return optuna.pruners.MedianPruner()
        if self.pruner == "hyperband":
            steps = self.plan.settings.eval_every
            return optuna.pruners.HyperbandPruner(min_resource=steps)
        return optuna.pruners.NopPruner()

    # --- trials -------------------------------------------------------------------------------

    def work(self) -> None:
        """Do trials until all are done or in the hands of other workers.

        Raises:
            TrainingEndedError: A training was interrupted.
            UserError: The settings of a trial cannot be trained.
        """
        study = self.open()
        if self.sampler == "grid":
            self._queue_grid(study)
        while True:
            with contextlib.ExitStack() as stack:
                trial = self._next(study, stack)
                if trial is None:
                    return
                self._run(study, trial)

    def _next(self, study: optuna.Study, stack: contextlib.ExitStack) -> Trial | None:
        """Return the next trial and hold its lock, or None if there is none left."""
        with FileLock(self.folder / "sweep.lock"):
            self._queue_lost(study)
            states = [trial.state for trial in study.get_trials(deepcopy=False)]
            taken = sum(state in (*FINISHED, TrialState.RUNNING) for state in states)
            if TrialState.WAITING not in states and taken >= self.size:
                return None
            trial = study.ask(self.space)
            stack.enter_context(locked(self._lock(trial.number), ""))
            trial.set_user_attr("host", socket.gethostname())
            return trial

    def _queue_grid(self, study: optuna.Study) -> None:
        """Queue the points of the grid; Optuna's own sampler of grids needs its own loop."""
        names = list(self.space)
        points = islice(product(*self._choices.values()), self.size)
        with FileLock(self.folder / "sweep.lock"):
            for point in points:
                study.enqueue_trial(dict(zip(names, point, strict=True)), skip_if_exists=True)

    def _lock(self, number: int) -> Path:
        return self.folder / f"trial_{number}.lock"

    def _queue_lost(self, study: optuna.Study) -> None:
        """Queue the trials again whose processes are gone."""
        trials = study.get_trials(deepcopy=False)
        queued = {trial.user_attrs.get(RESUMES) for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING or not self._is_lost(trial):
                continue
            if trial.number not in queued:
                study.enqueue_trial(trial.params, {RESUMES: trial.number})
            study.tell(trial.number, state=TrialState.FAIL)
            self._lock(trial.number).unlink(missing_ok=True)

    def _is_lost(self, trial: FrozenTrial) -> bool:
        lock = self._lock(trial.number)
        if not lock.exists():  # a machine with another folder may train it
            return trial.user_attrs.get("host", socket.gethostname()) == socket.gethostname()
        try:
            with locked(lock, ""):
                return True
        except LockedError:
            return False

    def _run(self, study: optuna.Study, trial: Trial) -> None:
        plan = plan_of_params(self.plan, trial.params)
        note = f"{self.name}, trial {trial.number}"
        plan = plan.replace(log_dir=str(self.folder), note=note, test=False)
        _tell(trial, describe_params(trial.params))
        try:
            runs = [self._train(trial, plan, seed, not n) for n, seed in enumerate(self.seeds)]
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
            _tell(trial, "pruned")
            return
        except UserError:
            study.tell(trial, state=TrialState.FAIL)
            raise
        except TrainingEndedError as ended:
            if ended.status != FAILED:
                raise
            # It counts, and the sampler learns that these values are bad ones.
            study.tell(trial, state=TrialState.PRUNED)
            _tell(trial, str(ended))
            return
        trial.set_user_attr("runs", [str(run.path.relative_to(self.folder)) for run in runs])
        value = fmean(run.summary["accuracy"]["val"]["best"] for run in runs)
        study.tell(trial, value)
        _tell(trial, f"{100 * value:.2f} % on the validation split")

    def _train(self, trial: Trial, plan: Plan, seed: int, prunes: bool) -> Run:
        callbacks = [Pruning(trial)] if prunes and self.pruner != "none" else []
        engine = Study({"": plan}, [seed], self.command, callbacks=lambda: callbacks)
        engine.images = self.images
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
            ((run,),) = engine.runs().values()
        return run

    def of(self, plan: Plan) -> "Sweep":
        """Return the sweep with another plan for its workers, and with the images known."""
        found = replace(self, plan=plan)
        found.__dict__["images"] = self.images
        return found


def _tell(trial: Trial, text: str) -> None:
    print(f"trial {trial.number}: {text}", file=sys.stderr, flush=True)


def work(sweep: Sweep) -> None:
    """Do trials in a worker process; see :meth:`Sweep.work`."""
    sweep.work()
