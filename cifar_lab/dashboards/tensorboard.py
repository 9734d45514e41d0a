"""What TensorBoard shows of a run, besides the scalars of training and evaluation.

The first process writes all of it. Of an evaluation that several processes share, it draws its own
part and says so in the titles, so that no process waits for the pictures of another.

No checkpoint holds anything of this: to test the best checkpoint, Lightning restores the callbacks,
which would set the dashboard back.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer

from cifar_lab.dashboards import hparams
from cifar_lab.dashboards.layers import (
    layer_norms,
    read_norms,
    unscaled_gradients,
    write_histograms,
)
from cifar_lab.dashboards.predictions import PredictionRecord, Predictions
from cifar_lab.dashboards.scalars import RunLogger
from cifar_lab.dashboards.start import write_start
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.loader import Batch
from cifar_lab.files import explained
from cifar_lab.internals import write_summaries
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.curves import Curves
from cifar_lab.plan import Plan
from cifar_lab.run.folder import RunFolder

SHARE = 0.02  # of the time since training began, for the dashboard
FIRST_GUESS = 2.0  # seconds for the first pictures, including the import of matplotlib
HISTOGRAMS = 10  # of each parameter, at equal distances, besides those of the first weights


def open_dashboard(
    plan: Plan,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    trainer: Trainer,
    folder: RunFolder,
    last_step: int | None,
    command: str,
) -> Dashboard:
    """Open the TensorBoard files of a run and write what is known before training.

    ``last_step`` is the step that the run is resumed from, or None for a new run. TensorBoard hides
    what it has of later steps. ``command`` is the command or call that started the run.
    """
    with explained(f"{folder.path}: TensorBoard needs a path in UTF-8; give --dashboard off"):
        str(folder.path.absolute()).encode("utf-8")
    has_start = any(folder.path.glob("events.out.tfevents.*"))
    logger = RunLogger(folder, last_step)
    logger.log_hyperparams({**plan.as_config(), "data": data.image_set.description})
    dashboard = Dashboard(logger, folder, with_pictures=plan.settings.dashboard == "full")
    if rank_zero_only.rank == 0:
        with dashboard.budget.spending():
            since = last_step if has_start else None
            write_start(logger.experiment, plan, model, data, trainer, command, since)
    return dashboard


class Dashboard(Callback):
    """Write norms of layers at the points of the training curves, histograms, and pictures.

    Histograms are those of the weights, at ``HISTOGRAMS`` even steps. Pictures are drawn of the
    first evaluation in each quarter of a run, of the last one, and of a test. All but the last two
    are left out where they would take too much time; see ``Budget``. The newest of each are also
    files in the folder of the run.
    """

    def __init__(self, logger: RunLogger, folder: RunFolder, with_pictures: bool) -> None:
        self.logger, self._folder, self._with_pictures = logger, folder, with_pictures
        self.budget = Budget()
        self._curves: Curves | None = None  # None where this process writes nothing of the layers
        self._norms: dict[str, Tensor] = {}  # of a step that is not over
        self._record: PredictionRecord | None = None  # of an evaluation that will be drawn
        self._images: Tensor | None = None  # of the newest training batch
        self._histogram_step = -1  # newest step with histograms
        self._steps_between = 1  # histograms

    @property
    def seconds(self) -> float:
        """Seconds that the dashboard has taken so far."""
        return self.budget.seconds

    @rank_zero_only
    def write_end(self, accuracy: Mapping[str, Mapping[str, float]], step: int) -> None:
        """Draw the curves, write ``hparams.final_metrics``, and close the files."""
        if self._with_pictures:
            with self._drawing():
                from cifar_lab.dashboards import drawing

                drawing.draw_curves(self._folder)
        with self.budget.spending():
            self.logger.log_metrics(hparams.final_metrics(accuracy), step)
            write_summaries(self.logger.experiment, hparams.end_summary())
            self.logger.finalize("success")

    def on_train_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Find the training curves, and begin the time of which pictures may take a share."""
        # Other strategies cut layers into pieces.
        has_layers = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        if has_layers and trainer.is_global_zero:
            self._curves = next(found for found in trainer.callbacks if isinstance(found, Curves))
        self.logger.last_step = trainer.estimated_stepping_batches
        self._steps_between = max(1, int(self.logger.last_step) // HISTOGRAMS)
        self.budget.began = time.perf_counter()
        if trainer.global_step == 0:  # a resumed run has those of its step
            self._write_histograms(trainer, pl_module)
        self._histogram_step = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: ImageClassifier, optimizer: Optimizer
    ) -> None:
        """Compute the norms of a step that is due; only ``16-mixed`` waits for the device."""
        if self._curves is not None and self._curves.is_point_due(trainer.global_step + 1):
            with self.budget.spending():
                gradients = unscaled_gradients(trainer, pl_module, optimizer)
                self._norms = layer_norms(pl_module.network, gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: ImageClassifier, outputs: Any, batch: Batch, *args: Any
    ) -> None:
        """Write norms, here where the training curves wait for the device too, and histograms."""
        self._images = batch[0]
        if self._norms:
            with self.budget.spending():
                self.logger.log_metrics(read_norms(self._norms), trainer.global_step)
            self._norms = {}
        step = trainer.global_step
        if step % self._steps_between == 0 and step != self._histogram_step:
            self._write_histograms(trainer, pl_module)
            self._histogram_step = step

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Decide whether the evaluation will be drawn."""
        self._record = PredictionRecord() if self._is_due(trainer) else None

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: ImageClassifier, outputs: Any, batch: Batch, *args: Any
    ) -> None:
        """Record the predictions of a batch."""
        if self._record is not None:
            with self.budget.spending():
                images, labels = batch
                self._record.update(images, outputs, labels)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Draw the evaluation; the clock of the training speed stands still here."""
        if self._record is not None:
            with self._drawing():
                self._draw(trainer, pl_module, self._record.read())
        self._record = self._images = None

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _is_due(self, trainer: Trainer) -> bool:
        if not self._with_pictures or not trainer.is_global_zero:
            return False
        if trainer.testing or trainer.should_stop:
            return True
        step, last_step = trainer.global_step, trainer.estimated_stepping_batches
        return step >= last_step or self.budget.allows_pictures(step / last_step)

    def _draw(self, trainer: Trainer, model: ImageClassifier, predictions: Predictions) -> None:
        from cifar_lab.dashboards import drawing  # loads matplotlib, which other runs do without

        pictures = drawing.Pictures(self.logger.experiment, self._folder.figures)
        drawing.draw_evaluation(pictures, trainer, model, predictions)
        if not trainer.testing:  # the weights of a test may be those of an earlier step
            drawing.draw_model(pictures, model.network, self._images, trainer.global_step)

    def _write_histograms(self, trainer: Trainer, model: ImageClassifier) -> None:
        if self._with_pictures and self._curves is not None:
            with self.budget.spending():
                write_histograms(self.logger.experiment, model.network, trainer.global_step)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Return a context for pictures; one that fails does not end the run."""
        with self.budget.spending(on_pictures=True):
            try:
                yield
            except Exception as error:
                warnings.warn(f"pictures left out: {error}", stacklevel=3)


class Budget:
    """Count the time that was spent; allow pictures once in each quarter of a run, within a share.

    Pictures are expected to take as long as the slowest did before.
    """

    def __init__(self) -> None:
        self.seconds = 0.0  # spent so far
        self._longest = 0.0  # seconds that pictures took at most
        self._quarter = -1  # of the run, in which pictures were allowed last
        self.began = time.perf_counter()  # begin of the time of which a share may be spent

    def allows_pictures(self, progress: float) -> bool:
        """Return whether pictures may be drawn now; the caller then draws them.

        ``progress`` is the share of the run's steps that are done, in [0, 1).
        """
        elapsed = time.perf_counter() - self.began
        expected = self.seconds + (self._longest or FIRST_GUESS)
        if int(4 * progress) == self._quarter or expected > SHARE * elapsed:
            return False
        self._quarter = int(4 * progress)
        return True

    @contextmanager
    def spending(self, on_pictures: bool = False) -> Iterator[None]:
        """Return a context whose time is counted."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds += seconds
            if on_pictures:
                self._longest = max(self._longest, seconds)
