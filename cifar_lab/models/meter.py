"""What a training loop measures between two points of its curves, gathered on the device."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from math import isfinite
from typing import Any

import torch
from torch import Tensor

KEPT_BATCHES = 10_000  # before they are added up, which waits for the device


class TrainingMeter:
    """Mean loss, accuracy and speed since the last reading.

    ``update`` keeps two numbers of a batch on the device and waits for nothing; only ``sums``
    copies them.
    """

    def __init__(self) -> None:
        # Loss times images, correct answers, images, batches before the first loss not finite.
        self._sums = [0.0] * 4
        self._batches: list[tuple[Tensor, Tensor, int]] = []  # since then: loss, correct, images
        self._seconds = 0.0
        self._since: float | None = None
        self._overall = [0.0, 0.0]  # images and seconds of all readings

    @property
    def overall_speed(self) -> float:
        """Images a second over all readings."""
        images, seconds = self._overall
        return images / seconds if seconds else 0.0

    @property
    def overall_seconds(self) -> float:
        """Seconds of training over all readings."""
        return self._overall[1]

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds one batch: its mean loss (), logits (B, C) and labels (B,)."""
        correct = (logits.detach().argmax(1) == labels).sum()
        self._batches.append((loss.detach(), correct, len(labels)))
        if len(self._batches) >= KEPT_BATCHES:  # nobody reads
            self.sums()

    def sums(self) -> list[float]:
        """What was added since the last reading; waits for the device.

        Returns:
            Four numbers: loss times images, correct answers, images, and batches before the first
            whose sum of losses was not finite.
        """
        if self._batches:
            losses, correct, counts = zip(*self._batches, strict=True)
            read = torch.stack(losses).tolist(), torch.stack(correct).tolist()
            # One by one: the sum is then the same however often it was asked for.
            for loss, right, count in zip(*read, counts, strict=True):
                self._sums[0] += loss * count
                self._sums[1] += right
                self._sums[2] += count
                self._sums[3] += isfinite(self._sums[0])
            self._batches = []
        return list(self._sums)

    def clear(self) -> None:
        """Forgets what was added since the last reading, and its time."""
        self._sums, self._batches, self._seconds = [0.0] * 4, [], 0.0

    def start(self) -> None:
        """Starts the clock; time while it is stopped (evaluations) does not count."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stops the clock."""
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
        self._since = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stops the clock for a while, if it runs."""
        running = self._since is not None
        self.stop()
        try:
            yield
        finally:
            if running:
                self.start()

    def read(self, sums: list[float]) -> dict[str, float]:
        """Gives the scalars of the given sums and starts anew.

        Args:
            sums: ``self.sums()``, or their total over all processes.
        """
        loss, correct, count, _ = sums
        running = self._since is not None
        self.stop()
        scalars = {
            "loss/train": loss / count,
            "acc/train": correct / count,
            "speed/images_per_second": count / self._seconds if self._seconds else 0.0,
        }
        self._overall[0] += count
        self._overall[1] += self._seconds
        self.clear()
        if running:
            self.start()
        return scalars

    def state_dict(self, sums: list[float]) -> dict[str, Any]:
        """What a run that goes on needs, in plain values.

        Args:
            sums: as for ``read``.
        """
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        return {
            "sums": sums,
            "seconds": self._seconds + running,
            "overall": list(self._overall),
        }

    def load_state_dict(self, state: dict[str, Any], empty: bool) -> None:
        """Goes on from a state; ``empty``: with sums of zero."""
        self._sums = [0.0] * 4 if empty else list(state["sums"])
        self._seconds, self._overall = state["seconds"], list(state["overall"])
