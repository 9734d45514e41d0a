"""What a run shows while it trains: a bar on a terminal, elsewhere lines.

Both show the scalars that were last logged, so they ask nothing of the device.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

REFRESH_SECONDS = 0.2  # of the bar
LONGEST_SILENCE = 300.0  # seconds without a line
SPLITS = ("train", "val", "test")


def make_progress(kind: str) -> Callback | None:
    """Gives the callback for ``--progress``: "bar", "line", "none", or "auto" to choose."""
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() else "line"
    if kind == "none":
        return None
    return ProgressBar() if kind == "bar" else ProgressLines()


class ProgressLines(Callback):
    """Prints a line at each evaluation, and every five minutes where none comes."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start = self._told = time.perf_counter()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Prints a line, where none came for long; without evaluations, which are of earlier steps.

        Nothing was saved for it: that nobody reads it any more shows at the next evaluation.
        """
        if time.perf_counter() - self._told >= LONGEST_SILENCE:
            with contextlib.suppress(BrokenPipeError):
                self._tell(trainer, ["train"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line of an evaluation."""
        if not trainer.sanity_checking:
            self._tell(trainer, SPLITS)

    def _tell(self, trainer: Trainer, splits: Sequence[str]) -> None:
        self._told = time.perf_counter()
        if not trainer.is_global_zero:
            return
        step, steps = trainer.global_step, trainer.estimated_stepping_batches
        elapsed = self._told - self._start
        line = f"step {step:>{len(f'{steps:,}')},} of {steps:,}   {describe(trainer, splits)}"
        line += f"   {clock(elapsed)} elapsed"
        if done := step - self._first_step:  # a run may go on with an evaluation
            line += f", {clock(elapsed / done * (steps - step))} left"
        print(line, flush=True)


class ProgressBar(Callback):
    """Shows one line that is rewritten a few times a second."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        self._refreshed = 0.0
        self._bar = tqdm(
            total=trainer.estimated_stepping_batches,
            initial=trainer.global_step,
            bar_format="{percentage:3.0f}% {bar:20} {n:,}/{total:,} {elapsed}<{remaining}  {desc}",
            disable=not trainer.is_global_zero,
            dynamic_ncols=True,
            file=sys.stdout,
            mininterval=0,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar, where it was not moved just now."""
        now = time.monotonic()
        if now - self._refreshed >= REFRESH_SECONDS:
            self._refreshed = now
            self._refresh(trainer, describe(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says that training waits."""
        if not trainer.sanity_checking:
            self._refresh(trainer, "evaluating …")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the new numbers."""
        if not trainer.sanity_checking:
            self._refresh(trainer, describe(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._bar.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Closes the bar, so that what is printed next has a line of its own."""
        if hasattr(self, "_bar"):
            self._bar.close()

    def _refresh(self, trainer: Trainer, description: str) -> None:
        self._bar.n = trainer.global_step
        self._bar.set_description_str(description)


def describe(trainer: Trainer, splits: Sequence[str] = SPLITS) -> str:
    """The newest scalars of these splits, and the speed, in words."""
    metrics = trainer.callback_metrics
    parts = []
    for split in splits:
        if f"loss/{split}" in metrics:
            loss, accuracy = metrics[f"loss/{split}"], metrics[f"acc/{split}"]
            parts.append(f"{split} {float(loss):.3f} {100 * float(accuracy):.2f} %")
    if speed := float(metrics.get("speed/images_per_second", 0)):
        parts.append(f"{speed:,.0f} images/s")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
