"""What a training loop measures between two points of its curves, gathered on the device."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor


class TrainingMeter:
    """Mean loss, accuracy and speed since the last reading.

    ``update`` adds to counters on the device and waits for nothing; only ``read`` copies them.
    """

    def __init__(self) -> None:
        # (4,): loss times images, correct answers, images, batches until that loss was not finite
        self.sums: Tensor | None = None
        self._seconds = 0.0
        self._since: float | None = None
        self._overall = [0.0, 0.0]  # images and seconds of all readings

    @property
    def overall_speed(self) -> float:
        """Images a second over all readings."""
        images, seconds = self._overall
        return images / seconds if seconds else 0.0

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds one batch: its mean loss (), logits (B, C) and labels (B,)."""
        if self.sums is None or self.sums.device != logits.device:
            self.sums = torch.zeros(4, dtype=torch.float64, device=logits.device)
        count = len(labels)
        self.sums[0] += loss.detach() * count
        self.sums[1] += (logits.detach().argmax(1) == labels).sum()
        self.sums[2] += count
        self.sums[3] += self.sums[0].isfinite()

    def start(self) -> None:
        """Starts the clock; time while it is stopped (evaluations) does not count."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stops the clock."""
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
        self._since = None

    def read(self, sums: Tensor) -> dict[str, float]:
        """Gives the scalars of the given sums and starts anew.

        Args:
            sums: ``self.sums``, or their total over all processes.
        """
        loss, correct, count, _ = sums.tolist()
        self.stop()
        scalars = {
            "loss/train": loss / count,
            "acc/train": correct / count,
            "speed/images_per_second": count / self._seconds if self._seconds else 0.0,
        }
        self._overall[0] += count
        self._overall[1] += self._seconds
        self.sums, self._seconds = None, 0.0
        self.start()
        return scalars

    def state_dict(self, sums: Tensor | None) -> dict[str, Any]:
        """What a run that goes on needs, in plain values.

        Args:
            sums: as for ``read``.
        """
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        return {
            "sums": None if sums is None else sums.tolist(),
            "seconds": self._seconds + running,
            "overall": list(self._overall),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device, empty: bool) -> None:
        """Goes on from a state, on the device that trains; ``empty``: with sums of zero."""
        if state["sums"] is not None:
            self.sums = torch.tensor(state["sums"], dtype=torch.float64, device=device)
            self.sums *= not empty
        self._seconds, self._overall = state["seconds"], list(state["overall"])
