"""Progress of a run: a line for each evaluation and, on a terminal, a bar below the lines.

Both show the scalars that were logged last, so they never wait for the device. What does not fit
into the width of a terminal is left out, the least important part first.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from pytorch_lightning import Callback, Trainer
from tqdm import tqdm

from cifar_lab.dashboards.notebook import NotebookLine, in_notebook
from cifar_lab.dashboards.time_left import TimeLeft
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.run.summary import clock

REFRESH_SECONDS = 0.2  # between updates of the bar
LONGEST_SILENCE = 300.0  # seconds without a line
GRAPH_WIDTH = 10, 30  # least and most characters of the bar itself
NOTEBOOK_WIDTH = 80  # characters


def make_progress(kind: str) -> Callback | None:
    """Return the callback for ``--progress``: "bar", "line", "none" or "auto"."""
    if kind == "auto":
        redraws = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        kind = "bar" if redraws or in_notebook() else "line"
    if kind == "none":
        return None
    return ProgressBar() if kind == "bar" else ProgressLines()


class ProgressLines(Callback):
    """Print a line at each evaluation, and after five minutes without one."""

    with_time_left = True

    def on_train_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Start the clocks."""
        self._start = self._told = time.perf_counter()
        steps, batches = trainer.estimated_stepping_batches, trainer.val_check_interval
        eval_every = int(batches) // trainer.accumulate_grad_batches
        self._left = TimeLeft(pl_module.cost_of_steps, int(steps), eval_every)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Print a line if there was none for long, without evaluations: they are of earlier steps.

        A closed output ends the run only at an evaluation, where a checkpoint was just saved.
        """
        self._left.count_step(trainer.global_step)
        if time.perf_counter() - self._told >= LONGEST_SILENCE:
            with contextlib.suppress(BrokenPipeError):
                self._tell(trainer, with_evaluation=False)

    def on_validation_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Start to time the evaluation."""
        self._left.begin_evaluation()

    def on_validation_end(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Print the line of the evaluation."""
        self._left.end_evaluation()
        self._tell(trainer, with_evaluation=True)

    def _tell(self, trainer: Trainer, with_evaluation: bool) -> None:
        self._told = time.perf_counter()
        if not trainer.is_global_zero:
            return
        step, steps = trainer.global_step, trainer.estimated_stepping_batches
        parts = {"step": f"step {step:>{len(f'{steps:,}')},} of {steps:,}"}
        parts |= scalars(trainer, 2)
        if not with_evaluation:
            del parts["evaluation"]
        parts["elapsed"] = f"{clock(self._told - self._start)} elapsed"
        if self.with_time_left:
            parts["left"] = self._time_left(step)
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else inf
        self._print(fitted(parts, ("speed", "elapsed", "left", "train"), width))

    def _time_left(self, step: int) -> str:
        seconds = self._left.seconds(step)
        return "" if seconds is None else f"{clock(seconds)} left"

    def _print(self, line: str) -> None:
        print(line, flush=True)


class ProgressBar(ProgressLines):
    """Show a bar below the lines, which is updated a few times a second."""

    with_time_left = False  # the bar shows it

    def on_train_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Open the bar."""
        super().on_train_start(trainer, pl_module)
        self._refreshed = 0.0
        output: dict[str, Any] = {"file": sys.stdout, "dynamic_ncols": True}
        if in_notebook():
            output = {"file": NotebookLine(), "ncols": NOTEBOOK_WIDTH}
        self._bar = tqdm(
            total=trainer.estimated_stepping_batches,
            bar_format="{desc}",
            disable=not trainer.is_global_zero,
            leave=False,  # the line of the last evaluation says the same
            **output,
        )

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Update the bar, unless that was done just now."""
        self._left.count_step(trainer.global_step)
        now = time.monotonic()
        if now - self._refreshed >= REFRESH_SECONDS:
            self._refreshed = now
            self._refresh(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Show that training waits for an evaluation."""
        super().on_validation_start(trainer, pl_module)
        self._refresh(trainer, evaluation="evaluating …")

    def on_validation_end(self, trainer: Trainer, pl_module: ImageClassifier) -> None:
        """Print the line of the evaluation, and show the new scalars."""
        super().on_validation_end(trainer, pl_module)
        self._refresh(trainer)

    def on_train_end(self, trainer: Trainer, *args: Any) -> None:
        """Remove the bar."""
        if hasattr(self, "_bar"):  # an exception may come before training starts
            self._bar.close()

    on_exception = on_train_end

    def _print(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)

    def _refresh(self, trainer: Trainer, **replaced: str) -> None:
        if self._bar.disable:
            return
        step, width = trainer.global_step, (self._bar.format_dict["ncols"] or NOTEBOOK_WIDTH) - 1
        parts = {"step": f"{step:,}/{self._bar.total:,}", **scalars(trainer, 1), **replaced}
        parts["left"] = self._time_left(step)
        text = fitted(parts, ("speed", "evaluation", "train", "left"), width)
        least, most = GRAPH_WIDTH
        room = min(width - len(text) - 2, most)
        self._bar.bar_format = f"{{bar:{room}}}  {{desc}}" if room >= least else "{desc}"
        self._bar.n = step
        self._bar.set_description_str(text)


def scalars(trainer: Trainer, digits: int) -> dict[str, str]:
    """Return the newest scalars as text: those of "train", of the last "evaluation", and "speed".

    Accuracies are in percent with some digits behind the point; what is not known yet is empty.
    """
    metrics, found = trainer.callback_metrics, dict.fromkeys(("train", "evaluation", "speed"), "")
    for split in ("train", "val", "test"):
        if f"loss/{split}" in metrics:
            loss, accuracy = metrics[f"loss/{split}"], 100 * float(metrics[f"acc/{split}"])
            part = "train" if split == "train" else "evaluation"
            found[part] = f"{split} {float(loss):.3f} {accuracy:.{digits}f} %"
    if speed := float(metrics.get("speed/images_per_second", 0)):
        found["speed"] = f"{speed:,.0f} images/s"
    return found


def fitted(parts: Mapping[str, str], dropped: Sequence[str], width: float) -> str:
    """Join parts; leave some out until the line fits: ``dropped`` names them, the first one first.

    Empty parts are left out in any case.
    """
    kept = {name: text for name, text in parts.items() if text}
    for name in dropped:
        if len("  ".join(kept.values())) <= width:
            break
        kept.pop(name, None)
    return "  ".join(kept.values())
