"""How a command ends that is not done: its exit statuses, and the exceptions that lead to them."""

FAILED, WRONG_INPUT = 1, 2
# 128 and the number of the signal: of Ctrl-C, of a pipe without a reader, of SIGTERM.
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143


def first_line(error: BaseException) -> str:
    """What an exception says, in a line; its kind if it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Of the device (torch.OutOfMemoryError is a RuntimeError) or of the CPU, in torch's words."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


class UserError(ValueError):
    """Wrong input by the user: a flag, a file or a folder.

    The command line prints the message without a traceback and exits with status 2. The message
    says what came, what was expected, and which flag or path to change, in one or two lines.
    """


class TrainingEndedError(Exception):
    """A training that a command needs was not finished; it said why.

    Attributes:
        status: exit status of the training, not 0.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"a training ended with exit status {status}")
        self.status = status
