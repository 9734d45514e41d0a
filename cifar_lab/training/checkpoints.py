"""Checkpoints at every evaluation, written whole or not at all, and the curve they belong to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.training.run_folder import RunFolder

Point = dict[str, float]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, syncs it and renames it: a crash leaves the old one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Saves ``checkpoint`` under ``path``."""
        part = Path(f"{path}.part")
        try:
            super().save_checkpoint(checkpoint, part, storage_options)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


class Checkpoints(Callback):
    """Saves ``last.ckpt`` at every evaluation and keeps the best of them as ``best.ckpt``.

    Args:
        folder: of the run.
        split: what is evaluated. On "val" the best is selected; on "test" nothing is, and there is
            no ``best.ckpt``.

    Attributes:
        points: one for each evaluation: ``step``, ``accuracy`` (a fraction) and ``loss``.
    """

    def __init__(self, folder: RunFolder, split: str) -> None:
        self.folder, self.split = folder, split
        self.points: list[Point] = []

    @property
    def last(self) -> Point:
        """The last point."""
        return self.points[-1]

    @property
    def best(self) -> Point:
        """The first of the points with the highest accuracy."""
        return max(self.points, key=lambda point: point["accuracy"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the point and saves."""
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
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
        trainer.save_checkpoint(self.folder.last_checkpoint)
        if self.split == "val" and self.best is self.last:
            self._keep_as_best()

    @rank_zero_only
    def _keep_as_best(self) -> None:
        part = self.folder.best_checkpoint.with_suffix(".part")
        part.unlink(missing_ok=True)
        try:
            # A second name for the same file: last.ckpt is replaced later, never written into.
            os.link(self.folder.last_checkpoint, part)
        except OSError:  # a file system without links
            shutil.copyfile(self.folder.last_checkpoint, part)
        os.replace(part, self.folder.best_checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """The points so far."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on behind the points of a checkpoint."""
        self.points = list(state_dict["points"])
