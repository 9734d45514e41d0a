"""Progress of a run: a bar on a terminal, lines elsewhere.

Both show the scalars that were logged last, so they never wait for the device.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

from cifar_lab.run.summary import clock

REFRESH_SECONDS = 0.2  # between updates of the bar
LONGEST_SILENCE = 300.0  # seconds without a line
SPLITS = ("train", "val", "test")


def make_progress(kind: str) -> Callback | None:
    """Return the callback for ``--progress``: "bar", "line", "none" or "auto"."""
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() else "line"
    if kind == "none":
        return None
    return ProgressBar() if kind == "bar" else ProgressLines()


class ProgressLines(Callback):
    """Print a line at each evaluation, and after five minutes without one."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = self._told = time.perf_counter()
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Print a line if there was none for long, without evaluations: they are of earlier steps.

        A closed output ends the run only at an evaluation, where a checkpoint was just saved.
        """
        if time.perf_counter() - self._told >= LONGEST_SILENCE:
            with contextlib.suppress(BrokenPipeError):
                self._tell(trainer, ["train"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of an evaluation."""
        self._tell(trainer, SPLITS)

    def _tell(self, trainer: Trainer, splits: Sequence[str]) -> None:
        self._told = time.perf_counter()
        if not trainer.is_global_zero:
            return
        step, steps = trainer.global_step, trainer.estimated_stepping_batches
        elapsed = self._told - self._start
        line = f"step {step:>{len(f'{steps:,}')},} of {steps:,}   {describe(trainer, splits)}"
        line += f"   {clock(elapsed)} elapsed"
        if done := step - self._first_step:  # a resumed run may begin with an evaluation
            line += f", {clock(elapsed / done * (steps - step))} left"
        print(line, flush=True)


class ProgressBar(Callback):
    """Show one line that is updated a few times a second."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
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

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Update the bar, unless that was done just now."""
        now = time.monotonic()
        if now - self._refreshed >= REFRESH_SECONDS:
            self._refreshed = now
            self._refresh(trainer, describe(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show that training waits for an evaluation."""
        self._refresh(trainer, "evaluating …")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the new scalars."""
        self._refresh(trainer, describe(trainer))

    def on_train_end(self, trainer: Trainer, *args: Any) -> None:
        """Close the bar, so that the next output begins on a line of its own."""
        if hasattr(self, "_bar"):  # an exception may come before training starts
            self._bar.close()

    on_exception = on_train_end

    def _refresh(self, trainer: Trainer, description: str) -> None:
        self._bar.n = trainer.global_step
        self._bar.set_description_str(description)


def describe(trainer: Trainer, splits: Sequence[str] = SPLITS) -> str:
    """Return the newest scalars of some splits, and the speed, as text."""
    metrics = trainer.callback_metrics
    parts = []
    for split in splits:
        if f"loss/{split}" in metrics:
            loss, accuracy = metrics[f"loss/{split}"], metrics[f"acc/{split}"]
            parts.append(f"{split} {float(loss):.3f} {100 * float(accuracy):.2f} %")
    if speed := float(metrics.get("speed/images_per_second", 0)):
        parts.append(f"{speed:,.0f} images/s")
    return "  ".join(parts)
