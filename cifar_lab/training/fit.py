"""A run from settings to summary: what ``scripts/fit.py`` does once its flags are understood."""

from __future__ import annotations

import inspect
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import distributed

from cifar_lab.command_line import tell
from cifar_lab.dashboards.metrics_csv import MetricsCSV
from cifar_lab.dashboards.progress import make_progress
from cifar_lab.dashboards.tensorboard import Dashboard
from cifar_lab.dashboards.text import code_block, table
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.errors import FAILED, UserError, first_line
from cifar_lab.models import REGISTRY
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.parsing import FitPlan
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.console import print_end, print_header, quiet
from cifar_lab.training.endings import ending
from cifar_lab.training.final_evaluation import FinalEvaluation
from cifar_lab.training.interrupt import Interrupt
from cifar_lab.training.memory import kept_memory
from cifar_lab.training.not_finite import FiniteCheck, NotFiniteError
from cifar_lab.training.open_run import OpenRun, finished, open_run, settings_of
from cifar_lab.training.random_state import RandomState
from cifar_lab.training.run_folder import RunFolder
from cifar_lab.training.summary import (
    Summary,
    accuracies,
    describe_data,
    describe_device,
    versions,
)
from cifar_lab.training.together import Together
from cifar_lab.training.trainer import build_trainer


def run_fit(plan: FitPlan) -> int:
    """Trains, evaluates and writes the run folder.

    Returns:
        The exit status; see ``ending``.

    Raises:
        UserError: wrong settings, data or hardware, or a run that cannot go on.
    """
    if plan.checkpoint and (told := finished(plan)):
        print(told)
        return 0
    start = time.perf_counter()
    quiet()
    seed_everything(plan.settings.seed, verbose=False)
    data = build_data(plan)
    data.prepare_data()
    data.setup()
    model = build_model(plan, data)
    trainer = build_trainer(settings_of(plan), cpu_only=model.cpu_only)
    model.check_trainer(trainer)
    if plan.settings.fast_dev_run:
        status = _try_once(model, data, trainer)
    else:
        with open_run(plan, data, trainer) as run:
            status = _Fit(plan, data, model, trainer, run, start).run()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()  # whose threads else end with an abort now and then
    return status


def _try_once(model: ImageClassifier, data: CIFAR10DataModule, trainer: Trainer) -> int:
    """One step and one evaluation; gives the exit status.

    Raises:
        UserError: Lightning refuses the settings.
    """
    trainer.callbacks += [FiniteCheck()]
    try:
        trainer.fit(model, datamodule=data)
    except MisconfigurationException as error:
        raise UserError(first_line(error)) from error
    except NotFiniteError as error:
        tell(f"fit.py: fast_dev_run: {error}")
        return FAILED
    print("fast_dev_run: one step and one evaluation passed; nothing was written.")
    return 0


@dataclass(frozen=True)
class _Fit:
    """A run whose parts are there: what remains is to train.

    Attributes:
        plan: its settings.
        data: with images.
        model: untrained.
        trainer: without callbacks and loggers.
        opened: its folder.
        start: when the process began with it, of ``time.perf_counter``.
    """

    plan: FitPlan
    data: CIFAR10DataModule
    model: ImageClassifier
    trainer: Trainer
    opened: OpenRun
    start: float

    def run(self) -> int:
        """Trains and evaluates; gives the exit status."""
        split = "test" if self.data.evaluates_on_test else "val"
        minutes = self.plan.settings.checkpoint_minutes
        checkpoints = Checkpoints(self.opened.folder, split, minutes)
        checkpoints.saved_step = self.opened.step  # until training begins
        interrupt = Interrupt(checkpoints)
        with kept_memory():
            return ending(lambda: self._work(checkpoints, interrupt), checkpoints, interrupt)

    def _work(self, checkpoints: Checkpoints, interrupt: Interrupt) -> bool:
        """Trains, tests and writes the summary, unless a signal comes; gives whether it did."""
        plan, data, model, trainer = self.plan, self.data, self.model, self.trainer
        dashboard = self._connect(checkpoints, interrupt)
        print_header(plan, model, data, trainer, self.opened)
        seconds = self._train()
        if interrupt.ended(trainer):
            return False
        checkpoints.keep_if_best(trainer.global_step)  # of a run that was killed before it could
        before = checkpoints.seconds_before  # testing loads the time up to the best checkpoint
        accuracy = _accuracies(trainer, model, data, checkpoints)
        if dashboard:
            dashboard.write_end(accuracy, trainer.global_step)
        spent = {
            "train": model.meter.overall_seconds,
            "fit": before + seconds,
            "dashboard": dashboard.seconds if dashboard else 0.0,
            "checkpoints": checkpoints.seconds,
            "total": before + time.perf_counter() - self.start,
        }
        summary = _summarise(plan, trainer, model, data, accuracy, spent)
        if trainer.is_global_zero:
            summary.write(self.opened.folder.summary)
        print_end(summary, plan.settings, self.opened.folder, dashboard is not None)
        return True

    def _connect(self, checkpoints: Checkpoints, interrupt: Interrupt) -> Dashboard | None:
        """Gives the trainer its callbacks and loggers.

        Progress is shown when all is saved: nobody may read it any more, which ends the run.
        """
        folder, trainer = self.opened.folder, self.trainer
        last_step = self.opened.step if self.opened.checkpoint else None
        if rank_zero_only.rank != 0:
            last_step = None
        curves = MetricsCSV(folder.metrics, last_step)
        dashboard = _open_dashboard(self.plan, self.data, folder, last_step)
        progress = make_progress(self.plan.settings.progress)
        callbacks = [FinalEvaluation(), FiniteCheck(), RandomState()]
        callbacks += dashboard.callbacks if dashboard else []
        callbacks += [checkpoints, *([progress] if progress else []), interrupt]
        trainer.callbacks += [Together(callbacks)]
        trainer.loggers = [dashboard.logger, curves] if dashboard else [curves]
        if dashboard:
            known = any(folder.path.glob("events.out.tfevents.*"))
            since = self.opened.step if known else None
            _describe(dashboard, self.plan, self.model, self.data, trainer, since)
        return dashboard

    def _train(self) -> float:
        """Trains; gives the seconds that it took."""
        start, checkpoint = time.perf_counter(), self.opened.checkpoint
        try:
            self.trainer.fit(
                self.model, datamodule=self.data, ckpt_path=checkpoint, weights_only=True
            )
        except MisconfigurationException as error:
            raise UserError(first_line(error)) from error
        return time.perf_counter() - start


def build_data(plan: FitPlan) -> CIFAR10DataModule:
    """The DataModule that the settings describe; nothing is read yet."""
    settings = vars(plan.settings)
    names = set(inspect.signature(CIFAR10DataModule).parameters) & set(settings)
    return CIFAR10DataModule(**{name: settings[name] for name in names})


def build_model(plan: FitPlan, data: CIFAR10DataModule) -> ImageClassifier:
    """The model that the settings describe, for the number of classes of the data.

    Raises:
        UserError: settings out of their range, or of sizes that have no room in any memory.
    """
    try:
        return REGISTRY[plan.recipe.model](**plan.model_settings, num_classes=data.num_classes)
    except UserError:
        raise
    except (MemoryError, OverflowError, RuntimeError, ValueError) as error:
        raise UserError(f"{plan.recipe.model}: cannot be built ({first_line(error)})") from error


def _accuracies(
    trainer: Trainer, model: ImageClassifier, data: CIFAR10DataModule, checkpoints: Checkpoints
) -> dict[str, Any]:
    """The accuracies of the run; tests the best checkpoint where one was selected."""
    # Testing loads the checkpoint and with it the callbacks' states of that time.
    best, last = checkpoints.best, checkpoints.last
    tested = None
    if not data.evaluates_on_test:
        path = trainer.strategy.broadcast(str(checkpoints.folder.best_checkpoint))
        trainer.test(model, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
        tested = round(float(trainer.callback_metrics["acc/test"]), 6)
    return accuracies(checkpoints.split, best, last, tested)


def _summarise(
    plan: FitPlan,
    trainer: Trainer,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    accuracy: dict[str, Any],
    seconds: dict[str, float],
) -> Summary:
    synthetic = data.image_set.source == "synthetic"
    return Summary(
        model=plan.recipe.model,
        recipe=plan.recipe.name,
        accuracy=accuracy,
        # The report has no figure for made-up images.
        report_accuracy=None if synthetic else plan.recipe.report_accuracy,
        steps=trainer.global_step,
        seconds=seconds,
        images_per_second=model.meter.overall_speed,
        data=describe_data(data),
        seed=plan.settings.seed,
        device=describe_device(trainer),
        versions=versions(),
        command=_command(),
    )


def _command() -> str:
    return shlex.join([Path(sys.executable).name, *sys.argv])


def _open_dashboard(
    plan: FitPlan, data: CIFAR10DataModule, folder: RunFolder, last_step: int | None
) -> Dashboard | None:
    """TensorBoard's files, unless they were declined; hides what is behind the last step."""
    if plan.settings.dashboard == "off":
        return None
    logger = TensorBoardLogger(
        folder.log_dir,
        folder.name,
        folder.version,
        default_hp_metric=False,
        purge_step=None if last_step is None else last_step + 1,
    )
    logger.log_hyperparams({**plan.as_config(), "data": data.image_set.description})
    return Dashboard(logger, with_pictures=plan.settings.dashboard == "full")


def _describe(
    dashboard: Dashboard,
    plan: FitPlan,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    trainer: Trainer,
    since: int | None,
) -> None:
    """Writes to the dashboard what is known before training, or what it is since a step."""
    known = {"val_size": data.sizes["val"], "data": data.image_set.source}
    device, images = describe_device(trainer), describe_data(data)
    environment = {**versions(), **device, **images, "command": _command()}
    texts = {"configuration": code_block(plan.as_yaml()), "environment": table(environment)}
    dashboard.write_start(model, {**plan.as_config(), **known}, texts, since)
