"""Checkpoints at every evaluation and every few minutes, and the points of the evaluations.

A checkpoint is written only as a whole, only with finite weights, and after all curves up to its
step. Whatever ends the process, the run can be resumed from the newest checkpoint without a gap.
"""

import math
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.files import copy_file
from cifar_lab.internals import resume_epoch, settle_loops
from cifar_lab.models.curves import Curves
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.resume import ResumePoint
from cifar_lab.run.summary import Point
from cifar_lab.training.random_state import gathered_states, restore_states, seed_process


class Checkpoints(Callback):
    """Saves ``last.ckpt`` before the first step, at every evaluation, and every few minutes.

    The checkpoint of the best evaluation is kept as ``best.ckpt``. A step is saved before the next
    batch, when its hooks, schedulers and evaluation are done. The last step is evaluated even where
    ``eval_every`` does not divide the number of steps. This callback must come after those that
    write curves.

    On the split "val" the best checkpoint is selected; on "test" nothing is selected, and there is
    no ``best.ckpt``. Several processes check the time only where ``curves`` have a point.
    ``point`` is the checkpoint that the run is resumed from.
    """

    def __init__(
        self,
        folder: RunFolder,
        split: str,
        curves: Curves,
        minutes: float = 2.0,
        point: ResumePoint | None = None,
    ) -> None:
        self.folder, self.split, self.curves, self.point = folder, split, curves, point
        self.points: list[Point] = []  # step, accuracy (a fraction) and loss of each evaluation
        self.seconds = 0.0  # time that this process spent on checkpoints
        self.seconds_before = 0.0  # time of training before the checkpoint that is resumed
        self.stepped = False  # whether the last batch ended an optimizer step
        self._step = self.saved_step = point.step if point else 0
        self.selected_since = 0  # first step whose point can be the best
        self._last_step = math.inf  # until training begins
        self._in_evaluation = False
        self._interval = 60 * minutes
        self._began = self._saved_at = time.monotonic()
        # States of the random generators, and metrics, that are restored when training begins.
        self._random: dict[str, Any] = {}
        self._metrics: dict[str, float] = {}

    @property
    def last(self) -> Point:
        """The last point."""
        return self.points[-1]

    @property
    def best(self) -> Point:
        """The first point with the highest accuracy among those that can be selected."""
        points = [point for point in self.points if point["step"] >= self.selected_since]
        return max(points or self.points[-1:], key=lambda point: point["accuracy"])

    # --- when to save -------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        """Save step 0, so that a run can be resumed whenever it is killed.

        If a run was killed before its ``last.ckpt`` was copied to ``best.ckpt``, it is copied here.
        """
        if self._random:
            restore_states(self._random, trainer.global_rank)
        else:
            seed_process(trainer.global_rank)
        restored = {name: torch.tensor(value) for name, value in self._metrics.items()}
        trainer.callback_metrics.update(restored)  # a scheduler may monitor one
        resume_epoch(trainer)
        self._began = self._saved_at = time.monotonic()
        self._step = self.saved_step = trainer.global_step
        self._last_step = trainer.estimated_stepping_batches
        if self._step == 0:
            self.save(trainer)
        self._forget_lost_best()
        self.keep_if_best(self._step)

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Let Lightning end the training at its last step, after an evaluation."""
        if trainer.global_step >= self._last_step:
            trainer.should_stop = True
        self.stepped, self._step = trainer.global_step > self._step, trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Save the step before this batch when it is time."""
        is_time = time.monotonic() - self._saved_at >= self._interval
        is_new = self.stepped and self.saved_step < trainer.global_step
        if is_new and self.agreed(trainer, is_time):
            self.save(trainer)

    on_train_epoch_start = on_train_batch_start  # before the hook of the model

    def on_validation_start(self, trainer: Trainer, *args: Any) -> None:
        """Note that an evaluation is not over."""
        self._in_evaluation = True

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        """Add the point of the evaluation and save."""
        metrics = trainer.callback_metrics
        self._in_evaluation = False
        # Lightning holds it as float32; see ImageClassifier for the digits.
        accuracy = round(float(metrics[f"acc/{self.split}"]), 6)
        loss = float(metrics[f"loss/{self.split}"])
        self.points.append({"step": trainer.global_step, "accuracy": accuracy, "loss": loss})
        self.save(trainer)
        self.keep_if_best(trainer.global_step)

    def agreed(self, trainer: Trainer, wish: bool) -> bool:
        """Return whether ``wish`` is true in any process; it is asked where curves have a point."""
        if trainer.world_size == 1:
            return wish
        if trainer.training and not self.curves.is_point_due(trainer.global_step):
            return False
        return bool(trainer.strategy.reduce_boolean_decision(wish, all=False))

    # --- saving -------------------------------------------------------------------------------

    def save(self, trainer: Trainer) -> None:
        """Save ``last.ckpt`` after the curves up to this step, if all is finite."""
        start = time.monotonic()
        with self.curves.stopped():
            self.curves.check_finite(trainer)
            self.curves.write_due_point(trainer)
            for logger in trainer.loggers:
                logger.save()
            trainer.save_checkpoint(self.folder.last_checkpoint)
        self._saved_at, self.saved_step = time.monotonic(), trainer.global_step
        self.seconds += self._saved_at - start

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make the state of the loops one that Lightning resumes exactly."""
        settle_loops(checkpoint, trainer.num_training_batches, self._in_evaluation)

    @rank_zero_only
    def _forget_lost_best(self) -> None:
        """Select only among later points if ``best.ckpt`` is not of the best point so far.

        This happens if a run goes back to an older checkpoint: a later one had replaced the file.
        """
        if not self.point or self.split != "val" or not self.points:
            return
        step = self.best["step"]
        if step != self._step and step != self.point.best_step():
            self.selected_since = self._step

    @rank_zero_only
    def keep_if_best(self, step: int) -> None:
        """Copy ``last.ckpt`` to ``best.ckpt`` if it is of this step and its point is the best."""
        points = self.points if self.split == "val" else []
        if points and self.best is self.last and self.last["step"] == step:
            copy_file(self.folder.last_checkpoint, self.folder.best_checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """Return the points, the metrics, the time so far, and the states of random generators."""
        return {
            "points": self.points,
            "seconds": self.seconds_before + time.monotonic() - self._began,
            "selected_since": self.selected_since,
            "metrics": {n: float(v) for n, v in self.curves.trainer.callback_metrics.items()},
            "random": gathered_states(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the points of a checkpoint."""
        self.points = list(state_dict["points"])
        self.selected_since = state_dict["selected_since"]
        self.seconds_before = state_dict["seconds"]
        self._metrics = state_dict.get("metrics", {})  # not in checkpoints of earlier versions
        self._random = state_dict["random"]  # set later: Lightning may draw numbers until then
