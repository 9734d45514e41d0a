"""Telling the user early that a model learns nothing, with the likely reason."""

import sys
from math import log, sqrt
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from tqdm import tqdm

from cifar_lab.models.classifier import ImageClassifier

SHARE = 0.2  # of the steps of a run, after which a model is expected to have learned something
FEWEST_STEPS = 100  # before which nothing is expected of it
DEVIATIONS = 3  # of the accuracy of guessing, up to which an accuracy may be luck
LOSS_MARGIN = 0.01  # nats below the loss of guessing, up to which a loss is as bad
SAME = 1e-3  # deviation of the logits over a batch, below which they hardly depend on the image


class LearningCheck(Callback):
    """Print a warning if an evaluation after a fifth of the steps is no better than guessing.

    Guessing among C classes has an accuracy of 1/C and a cross entropy of ln C. Both are compared,
    since a model may for long improve in one of them alone.

    Args:
        count: number of images of an evaluation.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._logits: Tensor | None = None  # (B, C), of the last batch
        self._is_done = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, *batch: Any
    ) -> None:
        """Keep the logits, without waiting for the device."""
        if outputs and not self._is_done:
            self._logits = outputs["logits"]

    def on_validation_end(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Warn, at most once, if the model is no better than guessing."""
        step, steps = trainer.global_step, trainer.estimated_stepping_batches
        if self._is_done or self._logits is None or step < max(SHARE * steps, FEWEST_STEPS):
            return
        split, classes = pl_module.evaluated_split, pl_module.num_classes
        found = [trainer.callback_metrics.get(f"{name}/{split}") for name in ("acc", "loss")]
        accuracy, loss = (float("nan") if value is None else float(value) for value in found)
        if is_guessing(accuracy, loss, classes, self.count):
            reason = likely_reason(pl_module, self._logits)
            _tell(
                f"step {step:,}: the model learns nothing. Its accuracy of {100 * accuracy:.2f} % "
                f"and loss of {loss:.3f} are those of guessing among {classes} classes. {reason}"
            )
        self._is_done, self._logits = True, None


def is_guessing(accuracy: float, loss: float, num_classes: int, count: int) -> bool:
    """Return whether an evaluation of ``count`` images is no better than guessing."""
    chance = 1 / num_classes
    luck = DEVIATIONS * sqrt(chance * (1 - chance) / count)
    return accuracy <= chance + luck and loss >= log(num_classes) - LOSS_MARGIN


def likely_reason(model: ImageClassifier, logits: Tensor) -> str:
    """Return why a model learns nothing, judged by its settings and by logits (B, C) of a batch."""
    spread = float(logits.float().std(0, correction=0).max())
    if spread > SAME:
        return "Its outputs do not follow the classes: try another --lr, and check the labels."
    if model.hparams.get("init") == "report" and len(model.hparams.get("hidden_units", ())) > 1:
        return "With --init report no gradient gets through several layers: try --init pytorch."
    return "Its outputs are the same for all images: its units may be dead, try a smaller --lr."


@rank_zero_only
def _tell(text: str) -> None:
    tqdm.write(f"warning: {text}", file=sys.stderr)  # above the bar, if there is one
