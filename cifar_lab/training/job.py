"""One run, once its parts are built: train, test and calibrate, and write the summary."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.dashboards.progress import make_progress
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.errors import FAILED, INTERRUPTED, StoppedEarly
from cifar_lab.inference.known_data import KnownSplit
from cifar_lab.inference.logits import split_logits
from cifar_lab.models.calibration import Calibration, calibrate
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.curves import Curves, write_evaluation
from cifar_lab.plan import Plan
from cifar_lab.run.metrics import MetricsCSV
from cifar_lab.run.resume import ResumePoint
from cifar_lab.run.run import Run
from cifar_lab.run.summary import Summary, accuracies, describe_data, describe_device, versions
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.console import print_end, print_header
from cifar_lab.training.interrupt import Interrupt, signals_kept
from cifar_lab.training.learning import LearningCheck
from cifar_lab.training.loggers import RunLogger, open_loggers
from cifar_lab.training.memory import kept_memory
from cifar_lab.training.outcome import Outcome, outcome_of
from cifar_lab.training.trainer import fit_model

if TYPE_CHECKING:
    from cifar_lab.dashboards.tensorboard import Dashboard


@dataclass
class Job:
    """A run whose parts are built; its Trainer has no callbacks and loggers yet."""

    plan: Plan
    data: CIFAR10DataModule
    model: ImageClassifier
    trainer: Trainer
    on_disk: Run
    point: ResumePoint | None  # checkpoint that the run is resumed from
    command: str  # command or call that started the run
    callbacks: Sequence[Callback]  # further callbacks of the Trainer
    start: float  # time when the set-up began, of time.perf_counter

    def __post_init__(self) -> None:
        self.curves = Curves(stop_if_not_finite=True)
        split = "test" if self.data.evaluates_on_test else "val"
        minutes = self.plan.settings.checkpoint_minutes
        folder = self.on_disk.folder
        self.checkpoints = Checkpoints(folder, split, self.curves, minutes, self.point)
        self.interrupt = Interrupt(self.checkpoints)
        self.others: list[RunLogger] = []  # beside TensorBoard and metrics.csv

    def run(self) -> Outcome:
        """Train and evaluate; return how the run ended."""
        status = FAILED
        try:
            with kept_memory(), signals_kept():
                outcome = outcome_of(self._work, self.on_disk, self.checkpoints, self.interrupt)
            status = outcome.status
            return outcome
        except StoppedEarly:
            status = INTERRUPTED
            raise
        finally:
            for logger in self.others:
                logger.end(status)

    def _work(self) -> bool:
        """Train, test and write the summary; return False if a signal came."""
        trainer, checkpoints, folder = self.trainer, self.checkpoints, self.on_disk.folder
        dashboard = self._connect()
        step = self.point.step if self.point else None
        print_header(self.plan, self.model, self.data, trainer, folder, step)
        start = time.perf_counter()
        # In all processes but the first, the folder is one that is never written to.
        path = self.point.folder.last_checkpoint if self.point else None
        fit_model(trainer, self.model, self.data, path)
        passed = time.perf_counter() - start
        if self.interrupt.ended(trainer):
            return False
        checkpoints.keep_if_best(trainer.global_step)  # a run may be killed before it does so
        # Testing loads the best checkpoint, and with it what the callbacks knew at that time.
        before, speed = checkpoints.seconds_before, self.curves.overall_speed
        seconds = {"train": self.curves.overall_seconds, "fit": before + passed}
        accuracy = self._accuracies()
        calibration = self._calibration()
        if dashboard:
            dashboard.write_end(accuracy, trainer.global_step)
        for logger in self.others:
            from cifar_lab.dashboards.hparams import final_metrics  # slow to import

            logger.log_metrics(final_metrics(accuracy), trainer.global_step)
        seconds["dashboard"] = dashboard.seconds if dashboard else 0.0
        seconds["checkpoints"] = checkpoints.seconds
        seconds["total"] = before + time.perf_counter() - self.start
        summary = self._summary(accuracy, seconds, speed, calibration)
        if trainer.is_global_zero:
            summary.write(folder.summary)
        print_end(summary, self.plan, folder, dashboard is not None)
        return True

    def _connect(self) -> Dashboard | None:
        """Give the Trainer its callbacks and loggers.

        The order matters: checkpoints come after everything that writes curves, and progress comes
        after saving, since the run ends if its output pipe is closed.
        """
        folder, point = self.on_disk.folder, self.point if rank_zero_only.rank == 0 else None
        table = MetricsCSV(folder.metrics, point.rows if point else None)
        step = point.step if point else None
        dashboard = None
        if self.plan.settings.dashboard != "off":
            from cifar_lab.dashboards.tensorboard import open_dashboard

            dashboard = open_dashboard(
                self.plan, self.model, self.data, self.trainer, folder, step, self.command
            )
        progress = make_progress(self.plan.settings.progress)
        check = LearningCheck(str(folder.path), self.data.sizes[self.checkpoints.split])
        found = [self.curves, dashboard, *self.callbacks, self.checkpoints, progress, check]
        self.trainer.callbacks += [*filter(None, found), self.interrupt]
        open_loggers(self.plan, folder, self.others)
        self.trainer.loggers = [*([dashboard.logger] if dashboard else []), table, *self.others]
        return dashboard

    def _accuracies(self) -> dict[str, Any]:
        """Return the accuracies of the run; test the best checkpoint where one was selected."""
        trainer, checkpoints, tested = self.trainer, self.checkpoints, None
        best, last = checkpoints.best, checkpoints.last
        if self._tests_best:
            path = trainer.strategy.broadcast(str(checkpoints.folder.best_checkpoint))
            # Lightning would write the metrics at another step, and the epoch once more.
            loggers, trainer.loggers = trainer.loggers, []
            trainer.test(
                self.model, datamodule=self.data, ckpt_path=path, verbose=False, weights_only=True
            )
            trainer.loggers = loggers
            write_evaluation(trainer, "test", int(best["step"]))
            for logger in loggers:
                logger.save()
            tested = round(float(trainer.callback_metrics["acc/test"]), 6)
        return accuracies(checkpoints.split, best, last, tested)

    @property
    def _tests_best(self) -> bool:
        """Whether a best checkpoint is selected, and loaded at the end to be tested."""
        return not self.data.evaluates_on_test and self.plan.settings.test

    def _calibration(self) -> Calibration | None:
        """Return the calibration of the best checkpoint, which was loaded to be tested.

        Only the first process computes it, which it cannot do for a sharded model.
        """
        strategy, data = self.trainer.strategy, self.data
        whole = type(strategy) in (SingleDeviceStrategy, DDPStrategy)
        if not (self._tests_best and self.trainer.is_global_zero and whole):
            return None
        model, images = self.model.eval().to(strategy.root_device), data.image_set
        chosen = data.val_indices
        part = images.train_images[chosen], images.train_labels[chosen]
        known = KnownSplit(images, part[0], part[1], np.arange(len(chosen)))
        return calibrate(*split_logits(model, known, data.eval_batch_size, "none"))

    def _summary(
        self,
        accuracy: dict[str, Any],
        seconds: dict[str, float],
        speed: float,
        calibration: Calibration | None,
    ) -> Summary:
        recipe, is_cifar10 = self.plan.recipe, self.data.image_set.is_cifar10
        return Summary(
            model=recipe.model,
            recipe=recipe.name,
            accuracy=accuracy,
            report_accuracy=self.plan.report_accuracy if is_cifar10 else None,
            steps=self.trainer.global_step,
            seconds=seconds,
            images_per_second=speed,
            data=describe_data(self.data),
            seed=self.plan.settings.seed,
            device=describe_device(self.trainer),
            versions=versions(),
            command=self.command,
            settings=self.plan.as_config(),
            calibration=dataclasses.asdict(calibration) if calibration else None,
        )
