"""How a run ended: finished, interrupted or failed; and in words, why."""

from collections.abc import Callable
from dataclasses import dataclass

from pytorch_lightning.utilities.exceptions import SIGTERMException

from cifar_lab.errors import (
    FAILED,
    INTERRUPTED,
    PIPE_CLOSED,
    TERMINATED,
    first_line,
    is_out_of_memory,
)
from cifar_lab.models.curves import NotFiniteError
from cifar_lab.run.run import Run
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.interrupt import Interrupt, InterruptedRun


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: Run | None  # finished or not; None for a trial that writes nothing
    # 0 finished, 1 failed, 130 interrupted, 141 the output pipe was closed, 143 terminated.
    status: int = 0
    message: str = ""  # why the run ended early, in a line
    resumable: bool = False


def outcome_of(
    work: Callable[[], bool], run: Run, checkpoints: Checkpoints, interrupt: Interrupt
) -> Outcome:
    """Do the work of a run, which returns whether it was finished; return how the run ended."""
    status, reason, resumable = FAILED, "", True
    try:
        if work():
            return Outcome(run)
        status = interrupt.status
    except InterruptedRun:
        status = interrupt.status
    except SIGTERMException:  # before the first step
        status = TERMINATED
    except (SystemExit, KeyboardInterrupt):  # Lightning leaves with SystemExit after Ctrl-C
        status = INTERRUPTED
    except NotFiniteError as error:
        reason = f"{error}. A smaller --lr or --gradient_clip_val may help."
        resumable = False
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = f"out of memory ({first_line(error)}). A smaller --batch_size needs less."
        resumable = False
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        reason = "the output pipe was closed."
        status = interrupt.status or PIPE_CLOSED  # Ctrl-C ends the reader too
    except OSError as error:
        where = error.filename or run.path
        reason = f"{where}: cannot be written ({error.strerror or error})."
    path, step = run.folder.last_checkpoint, f"step {checkpoints.saved_step:,}."
    if path.exists():
        told = f"{reason} Last good checkpoint: {path}, {step}" if reason else f"Stopped at {step}"
        return Outcome(run, status, told, resumable)
    stopped = f"Stopped before the first step. Run folder: {run.path}"
    return Outcome(run, status, f"{reason} There is no checkpoint yet." if reason else stopped)
