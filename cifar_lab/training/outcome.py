"""How a run ended, and why: it finished, was interrupted, or failed."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from cifar_lab.errors import (
    FAILED,
    INTERRUPTED,
    PIPE_CLOSED,
    TERMINATED,
    first_line,
    is_lost_connection,
    is_out_of_memory,
)
from cifar_lab.models.curves import NotFiniteError
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.run import Run
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.interrupt import Interrupt, InterruptedRun


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: Run | None  # finished or not; None for a trial that writes nothing
    # 0 finished, 1 failed, 130 interrupted, 141 the output pipe was closed, 143 terminated.
    status: int = 0
    message: str = ""  # why the run ended early, in a line; only one of several processes has it
    resumable: bool = False


def outcome_of(
    work: Callable[[], bool], run: Run, checkpoints: Checkpoints, interrupt: Interrupt
) -> Outcome:
    """Call ``work``, which returns whether the run finished; return how the run ended."""
    status, reason, resumable, tells = FAILED, "", True, rank_zero_only.rank == 0
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
        if is_lost_connection(error) and interrupt.status:
            status = interrupt.status  # the signal ended the others, which were still starting
        elif is_lost_connection(error):
            reason = "another process of the run was lost."
            tells = _is_first_to_tell(interrupt.folder or run.folder)
        elif is_out_of_memory(error):
            reason = f"out of memory ({first_line(error)}). A smaller --batch_size needs less."
            resumable = False
        else:
            raise
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        reason = "the output pipe was closed."
        status = interrupt.status or PIPE_CLOSED  # Ctrl-C ends the reader too
    except OSError as error:
        where = error.filename or run.path
        reason = f"{where}: cannot be written ({error.strerror or error})."
    run = Run(interrupt.folder or run.folder, run.model)
    path, step = run.folder.last_checkpoint, f"step {checkpoints.saved_step:,}."
    if path.exists():
        told = f"{reason} Last good checkpoint: {path}, {step}" if reason else f"Stopped at {step}"
    else:
        told = f"Stopped before the first step. Run folder: {run.path}"
        told, resumable = f"{reason} There is no checkpoint yet." if reason else told, False
    return Outcome(run, status, told if tells else "", resumable)


def _is_first_to_tell(folder: RunFolder) -> bool:
    """Write the traceback into the folder of a run, unless another process has done so.

    Any process may be the lost one, so the file decides which of the others reports it.
    """
    try:
        with folder.traceback.open("x", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        return True
    except OSError:
        return rank_zero_only.rank == 0 and not folder.traceback.exists()
