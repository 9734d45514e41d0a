"""What the programs in this folder share: their help, and errors that are told in a line."""

import sys
from collections.abc import Callable, Sequence

from cifar_lab.cli.help import help_of
from cifar_lab.cli.main import run_guarded
from cifar_lab.cli.parser import Command


def run(
    command: Command, work: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None
) -> int:
    """Print the help of a program, or do its work; return the exit status.

    Args:
        command: declaration of the program's flags.
        work: function that takes the command-line arguments and returns the exit status.
        argv: command-line arguments; the default is those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    program = f"{command.name}.py"
    if {"-h", "--help"} & set(words):
        print(help_of(command, [], program))
        return 0
    return run_guarded(program, lambda: work(words))
