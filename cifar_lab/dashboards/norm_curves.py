"""Curves of the norms of each layer's weights and of their gradient, before any clipping."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from cifar_lab.dashboards.budget import Budget
from cifar_lab.dashboards.norms import ParameterNorms
from cifar_lab.models.classifier import ImageClassifier


class NormCurves(Callback):
    """Writes the norms at the steps where the model writes its training scalars.

    Args:
        logger: takes the scalars.
        budget: counts the time.
    """

    def __init__(self, logger: TensorBoardLogger, budget: Budget) -> None:
        self._logger, self._budget = logger, budget
        self._norms: ParameterNorms | None = None

    def on_train_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Learns whether this process has whole layers; other strategies cut them to pieces."""
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        self._writes = whole and trainer.is_global_zero

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: ImageClassifier, optimizer: Any
    ) -> None:
        """Computes the norms for a step that is due; only ``16-mixed`` waits for the device."""
        if self._writes and pl_module.is_point_due(pl_module.global_step + 1):
            with self._budget.spending():
                gradients = pl_module.gradients()
                if scale := _scale(trainer, optimizer):
                    gradients = {name: found / scale for name, found in gradients.items()}
                self._norms = ParameterNorms(pl_module.network, gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: ImageClassifier, *args: Any, **kwargs: Any
    ) -> None:
        """Writes the norms, where the model's own point waits for the device as well."""
        if self._norms is not None:
            with self._budget.spending():
                self._logger.log_metrics(self._norms.read(), pl_module.global_step)
            self._norms = None


def _scale(trainer: Trainer, optimizer: Any) -> float | None:
    """What gradients are multiplied by here: with ``16-mixed``, where the optimizer unscales them.

    Lightning does it before this hook for other optimizers.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return None
    return float(scaler.get_scale())
