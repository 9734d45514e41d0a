"""What a model's logits say of it: accuracy, loss, calibration, and the same class by class.

The whole split is evaluated at once: its logits are small (two megabytes for 50,000 images of 10
classes), and so no number depends on the batches.
"""

from __future__ import annotations

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

CALIBRATION_BINS = 15  # of the source's tables
# The largest float32 below 1: torchmetrics would put a confidence of 1 into a bin beyond the last.
ALMOST_ONE = 1 - 2**-24


@dataclass(frozen=True)
class ClassResult:
    """One class of an evaluation.

    Attributes:
        name: of the class.
        images: that belong to it.
        correct: of these, that were recognised.
        accuracy: correct / images, the recall; None without images.
        precision: correct / images that were taken for this class; None without such.
    """

    name: str
    images: int
    correct: int
    accuracy: float | None
    precision: float | None


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation; rates are fractions.

    Attributes:
        confusion: int64 (C, C), counts of images; rows are true classes, columns predicted ones.
        loss: mean cross entropy.
        calibration_error: see ``calibration_error``.
    """

    confusion: np.ndarray
    loss: float
    calibration_error: float

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Number of images whose class has the largest logit."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """Fraction of images whose class has the largest logit."""
        return self.correct / self.images

    def classes(self, names: tuple[str, ...]) -> list[ClassResult]:
        """A row a class; ``names`` in the order of the labels."""
        counts = zip(
            names,
            self.confusion.sum(1).tolist(),
            self.confusion.diagonal().tolist(),
            self.confusion.sum(0).tolist(),
            strict=True,
        )
        return [
            ClassResult(name, images, correct, _ratio(correct, images), _ratio(correct, predicted))
            for name, images, correct, predicted in counts
        ]


def evaluate_logits(logits: Tensor, labels: Tensor) -> Evaluation:
    """Compares logits with labels.

    Args:
        logits: float32 (N, C), N at least 1.
        labels: int64 (N,), classes 0 to C - 1.

    Raises:
        UserError: logits that are not finite: the weights are too large to compute with.
    """
    loss = F.cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        raise UserError("the model gives logits that are not finite; its weights are too large")
    count = logits.shape[1]
    confusion = multiclass_confusion_matrix(logits.argmax(1), labels, count)
    return Evaluation(confusion.cpu().numpy(), loss, calibration_error(logits, labels))


def calibration_error(logits: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: how far confidence is from accuracy, from 0 to 1.

    A prediction's confidence is the largest probability of its softmax. Predictions are sorted into
    bins of equal width, [i / bins, (i + 1) / bins), the last one closed. The error is the mean over
    all images of |accuracy - mean confidence| of the bin that an image is in.

    Source: "On Calibration of Modern Neural Networks", equation 3
    (https://arxiv.org/abs/1706.04599); its bins are closed on the other side. torchmetrics sums in
    float32, which leaves about four correct digits of 50,000 images.

    Args:
        logits: float32 (N, C).
        labels: int64 (N,).
        bins: number of bins.
    """
    probabilities = logits.softmax(1).clamp(max=ALMOST_ONE)
    return multiclass_calibration_error(
        probabilities, labels, num_classes=logits.shape[1], n_bins=bins, norm="l1"
    ).item()


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
