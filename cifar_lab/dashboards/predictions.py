"""What the pictures need to know of an evaluation, gathered on the device while it runs.

There is no second pass: the evaluation's own steps hand over their logits. Nothing waits for the
device before ``read``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MISTAKES = 16  # shown of an evaluation


@dataclass(frozen=True)
class Mistakes:
    """Images that were classified wrongly, the most confident first.

    Attributes:
        images: uint8 (K, 3, 32, 32).
        labels: int64 (K,), the true classes.
        predicted: int64 (K,).
        confidence: float32 (K,), the probability that the wrong class was given.
    """

    images: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model for N images.

    Attributes:
        probabilities: float32 (N, C).
        labels: int64 (N,), the true classes.
        mistakes: at most ``MISTAKES`` of them.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    mistakes: Mistakes

    @property
    def confusion(self) -> np.ndarray:
        """Counts of images, int64 (C, C): rows true, columns predicted."""
        classes = self.probabilities.shape[1]
        cells = self.labels * classes + self.probabilities.argmax(1)
        return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


class PredictionRecord:
    """Collects the batches of one evaluation."""

    def __init__(self) -> None:
        self._predictions: list[tuple[Tensor, Tensor]] = []
        self._mistakes: list[tuple[Tensor, ...]] = []

    def update(self, images: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: uint8 images (B, 3, 32, 32), logits (B, C) and int64 labels (B,)."""
        # A training that failed has no probabilities: none of its predictions is a confident one.
        probabilities = logits.detach().float().softmax(1).nan_to_num(0)
        self._predictions.append((probabilities, labels))
        confidence, predicted = probabilities.max(1)
        # Right predictions go to the end, below every wrong one; no batch asks how many there are.
        wrong = confidence.where(predicted != labels, -1)
        found = wrong.topk(min(MISTAKES, len(labels))).indices
        self._mistakes.append((wrong[found], images[found], labels[found], predicted[found]))

    def read(self) -> Predictions:
        """Copies all to the CPU; at least one batch came."""
        probabilities, labels = (
            torch.cat(parts).cpu() for parts in zip(*self._predictions, strict=True)
        )
        return Predictions(probabilities.numpy(), labels.numpy(), self._read_mistakes())

    def _read_mistakes(self) -> Mistakes:
        wrong, images, labels, predicted = (
            torch.cat(parts) for parts in zip(*self._mistakes, strict=True)
        )
        order = wrong.argsort(descending=True, stable=True)[:MISTAKES]
        order = order[: int((wrong[order] >= 0).sum())]
        kept = [tensor[order].cpu().numpy() for tensor in (images, labels, predicted, wrong)]
        return Mistakes(*kept)
