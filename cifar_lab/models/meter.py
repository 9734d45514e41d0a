"""Loss, accuracy and time of training between two points of its curves, gathered on the device."""

import contextlib
import time
from collections.abc import Iterator
from math import isfinite

import torch
from torch import Tensor

KEPT_BATCHES = 10_000  # number of batches after which they are added up in any case


class TrainingMeter:
    """Add up the losses and correct answers of batches, and the time while its clock runs.

    ``update`` keeps them on the device and waits for nothing; ``sums`` copies them to the CPU.
    """

    def __init__(self) -> None:
        self._since: float | None = None  # when the clock was started, or None while it is stopped
        self.clear()

    def clear(self) -> None:
        """Set everything to zero, without stopping the clock."""
        self.load([0.0] * 4, 0.0)
        if self._since is not None:
            self.start()

    def load(self, sums: list[float], seconds: float) -> None:
        """Continue from earlier ``sums()`` and ``seconds()``."""
        self._sums, self._seconds = list(sums), seconds
        # Batches that are not in the sums yet: loss, correct answers, images.
        self._batches: list[tuple[Tensor, Tensor, int]] = []

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss (), logits (B, C) and labels (B,)."""
        correct = (logits.detach().argmax(1) == labels).sum()
        self._batches.append((loss.detach(), correct, len(labels)))
        if len(self._batches) >= KEPT_BATCHES:  # so that memory does not grow if nobody reads
            self.sums()

    def sums(self) -> list[float]:
        """Wait for the device, and return four sums.

        They are those of loss times images, correct answers and images, and the number of batches
        before the sum of the losses was no longer finite.
        """
        if self._batches:
            losses, correct, counts = zip(*self._batches, strict=True)
            read = torch.stack(losses).tolist(), torch.stack(correct).tolist()
            # Added one by one, so that the result does not depend on how often it is read.
            for loss, right, count in zip(*read, counts, strict=True):
                self._sums[0] += loss * count
                self._sums[1] += right
                self._sums[2] += count
                self._sums[3] += isfinite(self._sums[0])
            self._batches = []
        return list(self._sums)

    def seconds(self) -> float:
        """Return the time for which the clock has run."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._seconds + running

    def start(self) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stop the clock, as during evaluations."""
        self._seconds, self._since = self.seconds(), None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock inside the context, if it is running."""
        running = self._since is not None
        self.stop()
        try:
            yield
        finally:
            if running:
                self.start()
