"""Ctrl-C and SIGTERM: the step is finished, ``last.ckpt`` written, and the run can go on later.

Lightning's own way is to leave in the middle of a step with status 1 after Ctrl-C, and without a
checkpoint after SIGTERM. A second signal leaves at once; the newest checkpoint is whole then too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.training.checkpoints import Checkpoints

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRunError(Exception):
    """A signal ended the run between two steps, with a checkpoint."""


class Interrupt(Callback):
    """Ends a run that got a signal at the next step, or the next batch of an evaluation.

    The last step's evaluation is waited for: nothing would be left to resume but that.

    Args:
        checkpoints: saves the last one.

    Attributes:
        received: number of the signal, or None.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self.received: int | None = None
        self._told = False  # by another process, which does not say which signal it got

    @property
    def status(self) -> int:
        """The exit status: 0, or 128 and the signal's number.

        Of a process that was only told, as of SIGTERM; but 0 if it is not the first: Lightning
        kills the others of one that ends with another.
        """
        if self._told and not self.received:
            return 0 if rank_zero_only.rank else 128 + signal.SIGTERM
        return 128 + self.received if self.received else 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning, which gives them back at the end."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    on_test_start = on_train_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and ends the run, unless its last evaluation comes next."""
        if self._checkpoints.stepped and self._is_to_end(trainer):
            self._checkpoints.save(trainer)
            raise InterruptedRunError

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Saves the step before the evaluation and ends the run, unless it is the last one."""
        if trainer.world_size == 1 and self._is_to_end(trainer):
            self._checkpoints.save(trainer)
            raise InterruptedRunError

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the run; the evaluation was saved just now."""
        if self._is_to_end(trainer):
            raise InterruptedRunError

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Ends the run; training is saved and done."""
        if self.received and trainer.world_size == 1:
            raise InterruptedRunError

    def ended(self, trainer: Trainer) -> bool:
        """Whether any process got a signal in training; all of them ask, when it is over."""
        wish = self.received is not None
        self._told = bool(trainer.strategy.reduce_boolean_decision(wish, all=False))
        return self._told

    def _is_to_end(self, trainer: Trainer) -> bool:
        if trainer.should_stop or trainer.sanity_checking:
            return False
        self._told = self._checkpoints.agreed(trainer, self.received is not None)
        return self._told

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        with contextlib.suppress(OSError):  # `tee`, which gets Ctrl-C too, may have read it
            os.write(2, b"\nStopping after this step; once more leaves at once.\n")
