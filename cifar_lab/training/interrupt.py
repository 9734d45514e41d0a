"""Ctrl-C and SIGTERM: the step is finished, ``last.ckpt`` is written, and the run can be resumed.

Lightning itself exits in the middle of a step with status 1 after Ctrl-C, and writes no checkpoint
after SIGTERM. A second signal exits at once; the newest checkpoint is complete even then.
SIGUSR1 and SIGUSR2, by which schedulers warn a job before they end it, are handled as SIGTERM is.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.errors import INTERRUPTED, TERMINATED, WARNINGS, UserError
from cifar_lab.run.folder import RunFolder
from cifar_lab.training.checkpoints import Checkpoints

SIGNALS = [signal.SIGINT, signal.SIGTERM, *WARNINGS]
NOTE = b"\nStopping after this step; a second signal stops at once.\n"


class InterruptedRun(BaseException):  # a signal, not an error that may be handled
    """A signal ended the run."""


class Interrupt(Callback):
    """After a signal, end the run at the next step or at the next batch of an evaluation.

    The evaluation of the last step is not interrupted: nothing else would be left to resume.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self.received: int | None = None  # number of the signal
        self._told = False  # by another process, which does not say which signal it got
        self.folder: RunFolder | None = None  # that of the run, in every process

    @property
    def status(self) -> int:
        """The exit status: 0 without a signal, that of Ctrl-C, or that of SIGTERM.

        The first process ends as after SIGTERM if another one got the signal. The others end with
        0: a launcher may kill the first one when one of them ends with another status.
        """
        if rank_zero_only.rank or not (self._told or self.received):
            return 0
        return INTERRUPTED if self.received == signal.SIGINT else TERMINATED

    def on_fit_start(self, trainer: Trainer, *args: Any) -> None:
        """Take the signals over, so that Lightning gives them back to this callback at the end.

        Raises:
            UserError: A process on another machine does not see the folder of the run.
        """
        path = Path(trainer.strategy.broadcast(str(self._checkpoints.folder.path)))
        if not trainer.strategy.reduce_boolean_decision(path.is_dir()):
            raise UserError(
                f"--log_dir: {path} exists on the first machine but not on all; give a folder "
                "that the machines share"
            )
        self.folder = RunFolder.at(path)
        self.on_train_start()

    def on_train_start(self, *args: Any) -> None:
        """Take the signals over from Lightning."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    on_test_start = on_train_start

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Save the step before this batch, unless it is saved already, and end the run."""
        if self._checkpoints.stepped and self._is_to_end(trainer):
            if self._checkpoints.saved_step < trainer.global_step:
                self._checkpoints.save(trainer)
            raise InterruptedRun

    on_train_epoch_start = on_train_batch_start  # before the hook of the model

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Save the step before the evaluation and end the run, unless it is the last one."""
        if trainer.world_size == 1 and self._is_to_end(trainer):
            self._checkpoints.save(trainer)
            raise InterruptedRun

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        """End the run; the evaluation has just been saved."""
        if self._is_to_end(trainer):
            raise InterruptedRun

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """End the run; training is over and saved."""
        if self.received and trainer.world_size == 1:
            raise InterruptedRun

    def ended(self, trainer: Trainer) -> bool:
        """Return whether any process got a signal in training; all processes ask at its end."""
        wish = self.received is not None
        self._told = bool(trainer.strategy.reduce_boolean_decision(wish, all=False))
        return self._told

    def _is_to_end(self, trainer: Trainer) -> bool:
        if trainer.should_stop:
            return False
        self._told = self._checkpoints.agreed(trainer, self.received is not None)
        return self._told

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise InterruptedRun
        self.received = number
        if rank_zero_only.rank:  # the first process gets the signal too, or prints how it ended
            return
        with contextlib.suppress(OSError):  # `tee`, which gets Ctrl-C too, may have read it
            os.write(2, NOTE)


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the signal handlers of the caller at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)
