"""The exit statuses of the commands, and the signals and exceptions that lead to them."""

import signal

FAILED, WRONG_INPUT = 1, 2
# 128 and the number of the signal: Ctrl-C, a closed output pipe, SIGTERM.
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143
# Signals by which schedulers warn a job, handled as SIGTERM is. Windows has neither.
WARNINGS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


class UserError(ValueError):
    """Wrong input by the user: a flag, a file or a folder.

    The commands print the message without a traceback and exit with status 2. The message says
    what was given, what was expected, and which flag or path to change, in one or two lines.
    """


class TrainingEndedError(RuntimeError):
    """A training run failed, or it was stopped while something else needed it to finish.

    Attributes:
        status: exit status of the training, not 0.
    """

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class StoppedEarly(Exception):  # noqa: N818  # it is no error
    """A callback stopped a run that is not worth continuing; this is not a failure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type's name if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Return whether the memory of the CPU or of a GPU was exhausted."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def is_lost_connection(error: Exception) -> bool:
    """Return whether the processes of a run lost their connection; gloo has no class for that."""
    is_of_torch = any(kind.__name__ == "DistError" for kind in type(error).__mro__)
    return is_of_torch or "gloo/transport" in str(error)
