"""The predictions of an evaluation, recorded on the device while it runs.

There is no second pass: the evaluation's own steps return their logits. Nothing waits for the
device before ``read``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MISTAKES = 16  # shown for each evaluation


@dataclass(frozen=True)
class Mistakes:
    """Images that were classified wrongly, the most confident first."""

    images: np.ndarray  # uint8 (K, 3, 32, 32)
    labels: np.ndarray  # int64 (K,), the true classes
    predicted: np.ndarray  # int64 (K,)
    confidence: np.ndarray  # float32 (K,), the probabilities of the predicted classes


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model for N images."""

    probabilities: np.ndarray  # float32 (N, C)
    labels: np.ndarray  # int64 (N,), the true classes
    mistakes: Mistakes  # the most confident ones, at most MISTAKES

    @property
    def confusion(self) -> np.ndarray:
        """The confusion matrix, int64 (C, C), in images: rows true, columns predicted."""
        classes = self.probabilities.shape[1]
        cells = self.labels * classes + self.probabilities.argmax(1)
        return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


class PredictionRecord:
    """Record the predictions of one evaluation, batch by batch."""

    def __init__(self) -> None:
        self._predictions: list[tuple[Tensor, ...]] = []
        self._mistakes: list[tuple[Tensor, ...]] = []

    def update(self, images: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: uint8 images (B, 3, 32, 32), logits (B, C) and int64 labels (B,)."""
        # Weights that are not finite give no probabilities; 0 is no confident prediction.
        probabilities = logits.detach().float().softmax(1).nan_to_num(0)
        self._predictions.append((probabilities, labels))
        confidence, predicted = probabilities.max(1)
        # -1 places right predictions after all mistakes; counting these would wait for the device.
        wrong = confidence.where(predicted != labels, -1)
        found = wrong.topk(min(MISTAKES, len(labels))).indices
        self._mistakes.append((images[found], labels[found], predicted[found], wrong[found]))

    def read(self) -> Predictions:
        """Return all predictions on the CPU; there must have been a batch."""
        probabilities, labels = _joined(self._predictions)
        mistakes = _joined(self._mistakes)
        confidence = mistakes[-1]
        order = np.argsort(-confidence, kind="stable")[:MISTAKES]
        order = order[confidence[order] >= 0]
        return Predictions(probabilities, labels, Mistakes(*(array[order] for array in mistakes)))


def _joined(batches: list[tuple[Tensor, ...]]) -> list[np.ndarray]:
    return [torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True)]
