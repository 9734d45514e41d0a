"""How a run ends before it is finished, and what its user is told then."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.interrupt import Interrupt, InterruptedRunError
from cifar_lab.training.not_finite import NotFiniteError

FAILED = 1
INTERRUPTED, TERMINATED = 130, 143  # exit statuses: 128 + the signal's number


def ending(work: Callable[[], bool], checkpoints: Checkpoints, interrupt: Interrupt) -> int:
    """Does the work of a run.

    Args:
        work: gives whether the run was finished.
        checkpoints: of the run.
        interrupt: of the run.

    Returns:
        The exit status: 0 finished, 1 failed, 130 interrupted, 143 terminated.
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
    except OSError as error:
        _tell_not_written(error, checkpoints)
        return FAILED
    if status:
        _tell_stopped(checkpoints)
    return status


@rank_zero_only
def _tell_stopped(checkpoints: Checkpoints) -> None:
    if checkpoints.folder.last_checkpoint.exists():
        print(f"\nStopped at step {checkpoints.saved_step:,}. To go on: {_command(checkpoints)}")
    else:
        print(f"\nStopped before the first step. Run folder: {checkpoints.folder.path}")


@rank_zero_only
def _tell_not_finite(error: NotFiniteError, checkpoints: Checkpoints) -> None:
    print(
        f"fit.py: {error}. A smaller --lr or --gradient_clip_val may help. {_last(checkpoints)}",
        file=sys.stderr,
    )


@rank_zero_only
def _tell_not_written(error: OSError, checkpoints: Checkpoints) -> None:
    reason = error.strerror or str(error)
    where = error.filename or checkpoints.folder.path
    print(f"fit.py: {where}: cannot be written ({reason}). {_last(checkpoints)}", file=sys.stderr)
    if checkpoints.folder.last_checkpoint.exists():
        print(f"With that mended, to go on: {_command(checkpoints)}", file=sys.stderr)


def _last(checkpoints: Checkpoints) -> str:
    path = checkpoints.folder.last_checkpoint
    if not path.exists():
        return "There is no checkpoint yet."
    return f"Last good checkpoint: {path}, step {checkpoints.saved_step:,}."


def _command(checkpoints: Checkpoints) -> str:
    return shlex.join(["python", "scripts/fit.py", "--resume", str(checkpoints.folder.path)])
