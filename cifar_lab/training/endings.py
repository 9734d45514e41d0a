"""How a run ends before it is finished, and what its user is told then."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from cifar_lab.command_line import discard, tell
from cifar_lab.errors import (
    FAILED,
    INTERRUPTED,
    PIPE_CLOSED,
    TERMINATED,
    first_line,
    is_out_of_memory,
)
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.interrupt import Interrupt, InterruptedRunError
from cifar_lab.training.not_finite import NotFiniteError


def ending(work: Callable[[], bool], checkpoints: Checkpoints, interrupt: Interrupt) -> int:
    """Does the work of a run.

    Args:
        work: gives whether the run was finished.
        checkpoints: of the run.
        interrupt: of the run.

    Returns:
        The exit status: 0 finished, 1 failed, 130 interrupted, 141 the output pipe was closed,
        143 terminated.
    """
    try:
        status = 0 if work() else interrupt.status
    except InterruptedRunError:
        status = interrupt.status
    except SIGTERMException:  # before the first step
        status = TERMINATED
    except (SystemExit, KeyboardInterrupt):  # the first one is how Lightning leaves after Ctrl-C
        status = INTERRUPTED
    except NotFiniteError as error:
        _tell_not_finite(error, checkpoints)
        return FAILED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _tell_out_of_memory(error, checkpoints)
        return FAILED
    except BrokenPipeError:  # the reader of a pipe, `head` say, has had enough
        discard(sys.stdout)
        _tell_unread(checkpoints)
        return interrupt.status or PIPE_CLOSED  # Ctrl-C ends the reader too
    except OSError as error:
        _tell_not_written(error, checkpoints)
        return FAILED
    if status:
        _tell_stopped(checkpoints)
    return status


@rank_zero_only
def _tell_stopped(checkpoints: Checkpoints) -> None:
    if checkpoints.folder.last_checkpoint.exists():
        told = f"Stopped at step {checkpoints.saved_step:,}. To go on: {_command(checkpoints)}"
    else:
        told = f"Stopped before the first step. Run folder: {checkpoints.folder.path}"
    # Not to the output: Ctrl-C has ended the program that reads it, `tee` say, as well.
    tell(f"\n{told}")


@rank_zero_only
def _tell_not_finite(error: NotFiniteError, checkpoints: Checkpoints) -> None:
    tell(f"fit.py: {error}. A smaller --lr or --gradient_clip_val may help. {_last(checkpoints)}")


@rank_zero_only
def _tell_out_of_memory(error: Exception, checkpoints: Checkpoints) -> None:
    told = f"fit.py: out of memory ({first_line(error)}). A smaller --batch_size needs less."
    tell(f"{told} {_last(checkpoints)}")


@rank_zero_only
def _tell_not_written(error: OSError, checkpoints: Checkpoints) -> None:
    reason = error.strerror or str(error)
    where = error.filename or checkpoints.folder.path
    tell(f"fit.py: {where}: cannot be written ({reason}). {_last(checkpoints)}")
    if checkpoints.folder.last_checkpoint.exists():
        tell(f"With that mended, to go on: {_command(checkpoints)}")


@rank_zero_only
def _tell_unread(checkpoints: Checkpoints) -> None:
    tell(f"fit.py: the output pipe was closed. {_last(checkpoints)}")
    if checkpoints.folder.last_checkpoint.exists():
        tell(f"To go on: {_command(checkpoints)}")


def _last(checkpoints: Checkpoints) -> str:
    path = checkpoints.folder.last_checkpoint
    if not path.exists():
        return "There is no checkpoint yet."
    return f"Last good checkpoint: {path}, step {checkpoints.saved_step:,}."


def _command(checkpoints: Checkpoints) -> str:
    return shlex.join(["python", "scripts/fit.py", "--resume", str(checkpoints.folder.path)])
