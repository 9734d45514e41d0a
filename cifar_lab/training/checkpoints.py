"""Checkpoints at every evaluation and on a clock, and the curve of the evaluations.

A checkpoint is written whole or not at all, with finite weights or not at all, and after all curves
up to its step: whatever ends the process, the run goes on from the newest one without a gap.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.atomic import sync_folder, write_atomically
from cifar_lab.checkpoint_file import read_checkpoint
from cifar_lab.errors import UserError
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.training.loop_state import settle
from cifar_lab.training.not_finite import check_finite
from cifar_lab.training.run_folder import RunFolder

Point = dict[str, float]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, syncs it and renames it: a crash leaves the old one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Saves ``checkpoint`` under ``path``.

        Raises:
            OSError: it could not be written; an older one is as it was.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getbuffer())


class Checkpoints(Callback):
    """Saves ``last.ckpt`` before the first step, at every evaluation and every few minutes.

    Of the evaluations the best is kept as ``best.ckpt``. Steps that an evaluation follows are not
    saved before it is over. Must come behind the callbacks that write curves.

    Args:
        folder: of the run.
        split: what is evaluated. On "val" the best is selected; on "test" nothing is, and there is
            no ``best.ckpt``.
        minutes: between checkpoints; several processes look at the clock only where the training
            curves have a point.

    Attributes:
        points: one for each evaluation: ``step``, ``accuracy`` (a fraction) and ``loss``.
        seconds: spent on checkpoints by this process.
        seconds_before: of training that the checkpoint, from which this process went on, took.
        stepped: whether the last batch ended an optimizer step.
        saved_step: of the last checkpoint.
        selected_since: the step from which points can be the best one; see ``forget_lost_best``.
    """

    def __init__(self, folder: RunFolder, split: str, minutes: float = 2.0) -> None:
        self.folder, self.split = folder, split
        self.points: list[Point] = []
        self.seconds = self.seconds_before = 0.0
        self.stepped = False
        self._step = self.saved_step = self.selected_since = 0
        self._evaluation_is_due = False
        self._interval = 60 * minutes
        self._began = self._saved_at = time.monotonic()

    @property
    def last(self) -> Point:
        """The last point."""
        return self.points[-1]

    @property
    def best(self) -> Point:
        """The first of the points with the highest accuracy, of those that can be selected."""
        points = [point for point in self.points if point["step"] >= self.selected_since]
        return max(points or self.points[-1:], key=lambda point: point["accuracy"])

    # --- when ---------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves step 0, so that a run can go on whenever it was killed.

        A run that was killed after it had saved its best point as ``last.ckpt``, and before that
        was ``best.ckpt`` too, goes on with both.
        """
        self._began = self._saved_at = time.monotonic()
        self._step = self.saved_step = trainer.global_step
        if self._step == 0 and not trainer.fast_dev_run:
            self.save(trainer)
        self.forget_lost_best()
        self.keep_if_best(self._step)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: ImageClassifier,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves where the clock says so, at a step that no evaluation follows."""
        self.stepped, self._step = trainer.global_step > self._step, trainer.global_step
        batches = trainer.fit_loop.total_batch_idx + 1
        self._evaluation_is_due = trainer.should_stop or batches % trainer.val_check_batch == 0
        if not self.stepped or self._evaluation_is_due:
            return
        if self.agreed(trainer, time.monotonic() - self._saved_at >= self._interval):
            self.save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that an evaluation is not over."""
        self._evaluation_is_due = not trainer.sanity_checking

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the point and saves."""
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        self._evaluation_is_due = False
        self.points.append(
            {
                "step": trainer.global_step,
                # Lightning holds it as float32; see ImageClassifier for the digits.
                "accuracy": round(float(metrics[f"acc/{self.split}"]), 6),
                "loss": float(metrics[f"loss/{self.split}"]),
            }
        )
        if trainer.fast_dev_run:
            return
        self.save(trainer)
        self.keep_if_best(trainer.global_step)

    @staticmethod
    def agreed(trainer: Trainer, wish: bool) -> bool:
        """Whether any process has this wish; asked of all at the points of the training curves."""
        if trainer.world_size == 1:
            return wish
        if trainer.training and not trainer.lightning_module.is_point_due(trainer.global_step):
            return False
        return bool(trainer.strategy.reduce_boolean_decision(wish, all=False))

    # --- saving -------------------------------------------------------------------------------

    def save(self, trainer: Trainer) -> None:
        """Saves ``last.ckpt`` behind the curves up to this step.

        Raises:
            NotFiniteError: the loss or the weights are not finite.
            OSError: a file could not be written; the last checkpoint is as it was.
        """
        start = time.monotonic()
        model = trainer.lightning_module
        with model.meter.stopped():
            check_finite(model, trainer)
            model.write_due_point()
            for logger in trainer.loggers:
                logger.save()
            trainer.save_checkpoint(self.folder.last_checkpoint)
        self._saved_at, self.saved_step = time.monotonic(), trainer.global_step
        self.seconds += self._saved_at - start

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Makes the loops' state one that Lightning resumes exactly."""
        settle(checkpoint, trainer.num_training_batches, self._evaluation_is_due)

    @rank_zero_only
    def forget_lost_best(self) -> None:
        """Selects among the points to come where ``best.ckpt`` is not that of the best so far.

        So it is when a run went back to an older checkpoint: a later one had replaced the file.
        """
        if self.split != "val" or not self.points or self.best["step"] >= self._step:
            return
        try:
            kept = read_checkpoint(self.folder.best_checkpoint)["global_step"]
        except UserError:  # it is not there, or damaged
            kept = None
        if kept != self.best["step"]:
            self.selected_since = self._step

    @rank_zero_only
    def keep_if_best(self, step: int) -> None:
        """Makes ``last.ckpt`` of a step ``best.ckpt`` too, if its point is there and the best."""
        if self.split != "val" or not self.points or self._is_kept():
            return
        if self.best is not self.last or self.last["step"] != step:
            return
        part = self.folder.best_checkpoint.with_suffix(".part")
        part.unlink(missing_ok=True)
        try:
            # A second name for the same file: last.ckpt is replaced later, never written into.
            os.link(self.folder.last_checkpoint, part)
        except OSError:  # a file system without links
            shutil.copyfile(self.folder.last_checkpoint, part)
        os.replace(part, self.folder.best_checkpoint)
        sync_folder(part.parent)

    def _is_kept(self) -> bool:
        best, last = self.folder.best_checkpoint, self.folder.last_checkpoint
        return best.exists() and os.path.samefile(best, last)

    def state_dict(self) -> dict[str, Any]:
        """The points, which of them can be selected, and the time so far."""
        seconds = self.seconds_before + time.monotonic() - self._began
        state = {"points": self.points, "seconds": seconds}
        return {**state, "selected_since": self.selected_since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on behind the points of a checkpoint."""
        self.points = list(state_dict["points"])
        self.selected_since = state_dict.get("selected_since", 0)
        self.seconds_before = state_dict.get("seconds", 0.0)
