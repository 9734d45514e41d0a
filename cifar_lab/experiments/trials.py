"""The trials of a sweep: each is taken by one process, trained, and reported to Optuna.

A trial is a run for each seed, in the folder of the sweep; its value is the mean best accuracy on
the validation split. A process holds the lock of its trial. If it is killed, its trial is queued
again with the same values, and its run is resumed.
"""

import contextlib
import os
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import Trial, TrialState
from pytorch_lightning import Callback, LightningModule, Trainer

from cifar_lab.errors import FAILED, StoppedEarly, TrainingEndedError, UserError
from cifar_lab.experiments.space import describe_params, plan_of_params
from cifar_lab.experiments.study import PAUSE, Study
from cifar_lab.experiments.sweep import FINISHED, Sweep
from cifar_lab.plan import Plan
from cifar_lab.run.folder import LockedError, locked
from cifar_lab.run.run import Run

RESUMES = "resumes"  # attribute of a trial: number of the lost one whose run it resumes


class Pruning(Callback):
    """Report the accuracy of each evaluation, and end a trial that is not worth continuing."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the accuracy on the validation split.

        Raises:
            StoppedEarly: The pruner ends the trial.
        """
        self.trial.report(float(trainer.callback_metrics["acc/val"]), trainer.global_step)
        if self.trial.should_prune():
            raise StoppedEarly


def work(sweep: Sweep) -> None:
    """Run trials until all are finished; wait for those of other processes.

    Raises:
        TrainingEndedError: A training was interrupted.
        UserError: The settings of a trial cannot be trained.
    """
    study = sweep.open()
    is_told = False
    while True:
        with contextlib.ExitStack() as stack:
            trial = take(sweep, study, stack)
            if trial is not None:
                _run(sweep, study, trial)
                continue
        if not _numbers(study, TrialState.RUNNING):
            return
        if not is_told:
            print("waiting for trials of other workers", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(PAUSE)


def _numbers(study: optuna.Study, *states: TrialState) -> list[int]:
    return [trial.number for trial in study.get_trials(deepcopy=False, states=states)]


def take(sweep: Sweep, study: optuna.Study, stack: contextlib.ExitStack) -> Trial | None:
    """Return the next trial and hold its lock, or return None if no trial is left."""
    with sweep.lock:
        sweep.check_folder(study)
        _queue_lost(sweep, study)
        if not _numbers(study, TrialState.WAITING):
            taken = len(_numbers(study, *FINISHED, TrialState.RUNNING))
            if taken >= sweep.size or sweep.sampler == "grid":
                return None
        study.sampler = sweep.make_sampler(len(study.get_trials(deepcopy=False)))
        trial = study.ask(sweep.space)
        stack.enter_context(locked(_lock(sweep, trial.number), ""))
        return trial


def _lock(sweep: Sweep, number: int) -> Path:
    return sweep.folder / f"trial_{number}.lock"


def _queue_lost(sweep: Sweep, study: optuna.Study) -> None:
    """Queue again the trials whose processes have died."""
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(RESUMES) for trial in trials}
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            continue
        try:
            with locked(_lock(sweep, trial.number), ""):
                pass
        except LockedError:  # its process trains it
            continue
        if trial.number not in queued:  # else a process queued it and was killed before the end
            # It may have been killed before it read all the values that it was queued with.
            values = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            study.enqueue_trial(values, {RESUMES: trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


def _run(sweep: Sweep, study: optuna.Study, trial: Trial) -> None:
    """Train the runs of a trial, and report its value."""
    plan = plan_of_params(sweep.plan, trial.params)
    note = f"{sweep.name}, trial {trial.number}"
    plan = plan.replace(log_dir=str(sweep.folder), note=note, test=False)
    _print(trial, describe_params(trial.params))
    try:
        runs = [_train(sweep, trial, plan, seed) for seed in sweep.seeds]
    except StoppedEarly:
        _end(sweep, study, trial, "pruned", state=TrialState.PRUNED)
    except UserError:
        _end(sweep, study, trial, "failed", state=TrialState.FAIL)
        raise
    except TrainingEndedError as ended:
        if ended.status != FAILED:
            raise
        # The trial counts, so that the sampler learns that these values are bad.
        _end(sweep, study, trial, str(ended), state=TrialState.PRUNED)
    else:
        trial.set_user_attr("runs", [str(run.path.relative_to(sweep.folder)) for run in runs])
        value = fmean(run.summary["accuracy"]["val"]["best"] for run in runs)
        told = f"{100 * value:.2f} % on the validation split"
        _end(sweep, study, trial, told, values=value)


def _end(sweep: Sweep, study: optuna.Study, trial: Trial, told: str, **outcome: Any) -> None:
    """Report how a trial ended, under the lock, so that no process takes it for a lost one."""
    with sweep.lock:
        study.tell(trial, **outcome)
    _print(trial, told)


def _train(sweep: Sweep, trial: Trial, plan: Plan, seed: int) -> Run:
    """Train or find the run of a seed; only the run of the first seed reports to the pruner."""
    prunes = sweep.pruner != "none" and seed == sweep.seeds[0]
    callbacks = [Pruning(trial)] if prunes else []
    engine = Study({"": plan}, [seed], sweep.command, callbacks=lambda: callbacks)
    engine.images = sweep.images
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        ((run,),) = engine.runs().values()
    return run


def _print(trial: Trial, text: str) -> None:
    print(f"trial {trial.number}: {text}", file=sys.stderr, flush=True)
