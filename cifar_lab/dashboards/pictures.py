"""When pictures are drawn, and of what: the callback that watches a run for them.

Of an evaluation that several processes share, the first one draws its own part, and says so in the
titles: no process waits for another's pictures.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from cifar_lab.dashboards import drawing
from cifar_lab.dashboards.budget import Budget
from cifar_lab.dashboards.predictions import PredictionRecord
from cifar_lab.data.loader import Batch
from cifar_lab.models.classifier import ImageClassifier

NAMES = {"val": "validation images", "test": "test images"}


class Pictures(Callback):
    """Draws at the first evaluation of each quarter of a run, at the last one, and at a test.

    All but the last evaluation and the test are left out where they would take more than a small
    share of the run's time; see budget.py.

    Args:
        logger: takes the pictures.
        budget: counts the time.
    """

    def __init__(self, logger: TensorBoardLogger, budget: Budget) -> None:
        self._logger, self._budget = logger, budget
        self._record: PredictionRecord | None = None  # of an evaluation that will be drawn
        self._batch: Tensor | None = None  # the newest training images
        self._quarter = -1  # in which pictures were drawn last

    # --- training -----------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Starts the clock that the budget is a share of."""
        self._budget.begin()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: ImageClassifier,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Keeps the images of the newest batch."""
        self._batch = batch[0]

    # --- validation ---------------------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Decides whether this evaluation will be drawn."""
        self._record = PredictionRecord() if self._is_due(trainer) else None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: ImageClassifier,
        outputs: Tensor,
        batch: Batch,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Collects the predictions of an evaluation or a test."""
        if self._record is not None:
            with self._budget.spending():
                images, labels = batch
                self._record.update(images, outputs, labels)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Draws; the model's clock of the training speed stands still here."""
        when = f"step {trainer.global_step:,}"
        self._draw(trainer, pl_module, pl_module.evaluated_split, when, pr_group="pr")
        self._batch = None

    # --- test ---------------------------------------------------------------------------------

    def on_test_epoch_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """A test will be drawn."""
        self._record = PredictionRecord() if trainer.is_global_zero else None

    on_test_batch_end = on_validation_batch_end

    def on_test_epoch_end(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Draws; the curves' step is that of the end, the title names the checkpoint."""
        tested = Path(trainer.ckpt_path).name if trainer.ckpt_path else "the last weights"
        self._draw(trainer, pl_module, "test", tested, pr_group="pr_test")

    # ------------------------------------------------------------------------------------------

    def _is_due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return False
        last = trainer.estimated_stepping_batches
        if trainer.should_stop or trainer.global_step >= last:
            return True
        quarter = int(4 * trainer.global_step / last)
        if quarter == self._quarter or not self._budget.allows_drawing():
            return False
        self._quarter = quarter
        return True

    def _draw(
        self, trainer: Trainer, model: ImageClassifier, split: str, when: str, *, pr_group: str
    ) -> None:
        """Draws what was collected; a picture that fails is no reason to end a run."""
        record, self._record = self._record, None
        if record is None:
            return
        part = f", part of process 0 of {trainer.world_size}" if trainer.world_size > 1 else ""
        title = f"{NAMES[split]}, {when}{part}"
        with self._budget.spending(drawing=True):
            try:
                self._write(record, model, split, title, pr_group)
            except Exception as error:
                warnings.warn(f"TensorBoard pictures left out: {error}", stacklevel=2)

    def _write(
        self,
        record: PredictionRecord,
        model: ImageClassifier,
        split: str,
        title: str,
        pr_group: str,
    ) -> None:
        writer, step = self._logger.experiment, model.global_step
        names = model.class_names or tuple(map(str, range(model.num_classes)))
        predictions = record.read()
        drawing.draw_evaluation(writer, predictions, names, split, title, step)
        drawing.draw_pr_curves(writer, predictions, names, pr_group, step)
        if self._batch is not None:
            drawing.draw_batch(writer, self._batch, step)
        if pr_group == "pr":  # not of a test, whose curves' step is not that of its weights
            drawing.draw_weights(writer, list(model.network.parameters()), step)
            drawing.draw_histograms(writer, model.network, step)
