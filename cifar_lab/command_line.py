"""How the small commands run: errors in a line, output that may close, exit statuses.

Light to import, so that ``--help`` answers at once. A command is a function that takes the words
behind the script's name and gives its exit status, decorated with ``command``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from cifar_lab.errors import (
    FAILED,
    INTERRUPTED,
    PIPE_CLOSED,
    TERMINATED,
    WRONG_INPUT,
    TrainingEndedError,
    UserError,
    first_line,
    is_out_of_memory,
)


def command(
    prog: str, interrupted: str = "Interrupted."
) -> Callable[[Callable[[Sequence[str]], int]], Callable[[Sequence[str] | None], int]]:
    """Decorates a command: default words, errors in one or two lines, exit statuses.

    0 is done, 2 wrong input, 130 interrupted, 141 when the output pipe was closed; a training
    that the command needs and that was not finished gives its own, and so may the command.

    Args:
        prog: name of the script.
        interrupted: what to say after Ctrl-C.
    """

    def decorate(main: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str] | None], int]:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            status = 0
            _prepare_output()
            try:
                status = main(sys.argv[1:] if argv is None else argv)
                sys.stdout.flush()
                return status
            except BrokenPipeError:  # the reader of a pipe, `head` say, has had enough
                discard(sys.stdout)
                return status or PIPE_CLOSED
            except UserError as error:
                tell(f"{prog}: {error}")
                return WRONG_INPUT
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                told = f"out of memory ({first_line(error)})"
                tell(f"{prog}: {told}. A smaller --batch_size needs less.")
                return FAILED
            except TrainingEndedError as ended:
                if ended.status in (INTERRUPTED, TERMINATED):
                    tell(f"\n{interrupted}")
                else:
                    tell(f"{prog}: {ended}; what is finished is kept")
                return ended.status
            except (KeyboardInterrupt, SystemExit) as stop:
                if isinstance(stop, SystemExit) and not stop.code:  # --help
                    return 0
                tell(f"\n{interrupted}")  # how Lightning leaves after Ctrl-C
                return INTERRUPTED

        return run

    return decorate


def _prepare_output() -> None:
    """Lets every name be printed, and a process without an output or error stream do its work."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as the error stream is


@contextlib.contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """Makes the folder of a file that a flag names; says in a line if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written ({error.strerror})") from error


def check_writable(flag: str, path: Path | None) -> None:
    """Finds out what is wrong with a file that is written after hours; leaves no new file.

    Raises:
        UserError: it cannot be written.
    """
    if path is not None:
        with writing(flag, path):
            if path.exists() and not path.is_file():
                raise UserError(f"{flag} {path}: not a file")
            part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:4]}")  # as long as NAME.part
            part.open("xb").close()
            part.unlink()


def tell(text: str) -> None:
    """Prints to the error stream, if anybody reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: Any) -> None:
    """Lets nothing more reach a pipe that nobody reads; Python would complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_json(options: argparse.Namespace, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Does the work and gives what it found; with ``--json`` that alone goes to standard output."""
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        found = work()
    if options.json:
        print(json.dumps(found))
    return found
