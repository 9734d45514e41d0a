"""The evaluation of a model by its logits: accuracy, loss, calibration, and rates of each class.

A whole split is evaluated at once, so that no result depends on the batches. Its logits are small:
two megabytes for 50,000 images of 10 classes. Rates are fractions.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from cifar_lab.errors import UserError
from cifar_lab.models.calibration import Calibration

CALIBRATION_BINS = 15  # as in the tables of the source
# The largest float32 below 1: torchmetrics would put a confidence of 1 into a bin beyond the last.
ALMOST_ONE = 1 - 2**-24


@dataclass(frozen=True)
class ClassResult:
    """The result for one class; a rate without any images is None."""

    name: str
    images: int
    correct: int  # images of the class that were recognized
    accuracy: float | None  # share of the images of the class that were recognized: the recall
    precision: float | None  # share of the images predicted as this class that belong to it


@dataclass(frozen=True)
class Calibrated:
    """The part of an evaluation that depends on the calibration of the model."""

    temperature: float  # divides the logits
    threshold: float  # highest probability below which ``predict`` says "like no class"
    calibration_error: float  # after temperature scaling
    below_threshold: float  # share of the images


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    confusion: np.ndarray  # int64 (C, C), images; rows are true classes, columns predicted ones
    loss: float  # mean cross entropy
    calibration_error: float
    calibrated: Calibrated | None = None  # None for a model without calibration

    @property
    def images(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """The number of images whose class has the largest logit."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """The fraction of images whose class has the largest logit."""
        return self.correct / self.images

    def classes(self, names: tuple[str, ...]) -> list[ClassResult]:
        """Return the result for each class; ``names`` are in the order of the labels."""
        totals = self.confusion.sum(1), self.confusion.diagonal(), self.confusion.sum(0)
        counts = zip(names, *(total.tolist() for total in totals), strict=True)
        return [
            ClassResult(name, images, correct, _ratio(correct, images), _ratio(correct, predicted))
            for name, images, correct, predicted in counts
        ]


def evaluate_logits(
    logits: Tensor, labels: Tensor, calibration: Calibration | None = None
) -> Evaluation:
    """Compare logits, float32 (N, C), with labels, int64 (N,); N is at least 1.

    Raises:
        UserError: The logits are not finite, since the weights are too large.
    """
    loss = F.cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        raise UserError("the model's logits are not finite; its weights are too large")
    confusion = multiclass_confusion_matrix(logits.argmax(1), labels, logits.shape[1])
    error, calibrated = calibration_error(logits, labels), None
    if calibration:
        temperature, threshold = calibration.temperature, calibration.threshold
        after = calibration_error(logits / temperature, labels)
        below = calibration.unlike(calibration.probabilities(logits)).float().mean().item()
        calibrated = Calibrated(temperature, threshold, after, round(below, 6))
    return Evaluation(confusion.cpu().numpy(), loss, error, calibrated)


def calibration_error(logits: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error, 0 to 1: the gap between confidence and accuracy.

    The confidence of a prediction is the largest probability of its softmax. Predictions are sorted
    into bins of equal width, [i / bins, (i + 1) / bins); the last one is closed. The error is the
    mean over all images of ``|accuracy - mean confidence|`` in the bin of the image.

    Source: "On Calibration of Modern Neural Networks", equation 3
    (https://arxiv.org/abs/1706.04599); its bins are closed on the other side. torchmetrics sums in
    float32, which leaves about four correct digits for 50,000 images.
    """
    probabilities = logits.softmax(1).clamp(max=ALMOST_ONE)
    return multiclass_calibration_error(
        probabilities, labels, num_classes=logits.shape[1], n_bins=bins, norm="l1"
    ).item()


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
