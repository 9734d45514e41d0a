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
    """Print a warning if a model is no better than guessing after a fifth of the steps.

    Guessing among C classes that are equally frequent has an accuracy of 1/C and a cross entropy of
    ln C. The accuracy of the evaluation and the losses of evaluation and training are compared with
    them, since a model may for long improve in one of them alone, and may only memorize.

    Args:
        run: name of the run, for the warning.
        count: number of images of an evaluation.
    """

    def __init__(self, run: str, count: int) -> None:
        self.run, self.count = run, count
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
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        accuracy, loss = found[f"acc/{split}"], found[f"loss/{split}"]
        if is_guessing(accuracy, min(loss, found["loss/train"]), classes, self.count):
            reason = likely_reason(pl_module, self._logits)
            _tell(
                f"{self.run}: step {step:,}: the model learns nothing. Its accuracy of "
                f"{100 * accuracy:.2f} % and loss of {loss:.3f} are those of guessing among "
                f"{classes} classes. {reason}"
            )
        self._is_done, self._logits = True, None


def is_guessing(accuracy: float, loss: float, num_classes: int, count: int) -> bool:
    """Return whether an accuracy of ``count`` images and a loss are no better than guessing."""
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
    return (
        "Its outputs are the same for all images: its units may be dead (try a smaller --lr), or "
        "its weights have hardly moved (try a larger one)."
    )


@rank_zero_only
def _tell(text: str) -> None:
    tqdm.write(f"warning: {text}", file=sys.stderr)  # above the bar, if there is one
