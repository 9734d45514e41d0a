"""``cifar-lab COMMAND ...``: find the command, run it, and turn errors into exit statuses.

The statuses are 0 for success, 1 for a failed training or check, 2 for wrong input (one or two
lines, no traceback), 130 and 143 for an interrupted and a terminated command, and 141 if the
output pipe was closed. Nothing heavy is imported before the flags are understood.
"""

import contextlib
import io
import logging
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from cifar_lab import __version__, errors
from cifar_lab.cli.help import help_of
from cifar_lab.cli.output import find_temporary_folder, print_json
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.settings import unknown

WRITTEN = ("resume", "output", "ckpt")  # flags of paths where commands write
VERSION = f"cifar-lab {__version__}"
COMMANDS = {
    "fit": "train a model, or resume a run",
    "evaluate": "measure accuracy and calibration of a checkpoint",
    "predict": "print the most probable classes of image files",
    "export": "export a trained model to ONNX or torch.export",
    "runs": "list the runs in a folder",
    "plot": "draw the curves of one or several runs",
    "compare": "test whether one run is better than another",
    "sweep": "search for the best settings on the validation split",
    "report": "train the lab report's systems; draw its figures",
    "speedrun": "measure a recipe's accuracy against its training time",
    "ablate": "measure what each part of a fast recipe contributes",
    "study-initialisation": "show why the lab report's two MLPs differ",
    "check-gradients": "check the gradients, or find a student's mistake",
    "exercise": "write layer stubs for students to fill in",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, given as its name and the words after it; return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _prepare_output()
    with _signals():
        return _main(words)


def _main(words: list[str]) -> int:
    name = words[0].replace("_", "-") if words else "--help"
    if name not in COMMANDS:
        return run_guarded("cifar-lab", lambda: _without_command(words[0] if words else name))
    module = import_module(f"cifar_lab.cli.{name.replace('-', '_')}")
    interrupted = getattr(module, "INTERRUPTED_NOTE", "Interrupted.")
    return run_guarded(f"cifar-lab {name}", lambda: _call(module, name, words[1:]), interrupted)


def _call(module: Any, name: str, words: list[str]) -> int:
    flags = words[: words.index("--")] if "--" in words else words
    others = [word for word in flags if word not in ("-h", "--help")]
    if others != flags:
        print(help_of(module.COMMAND, others, program(name, as_typed=True)))
        return 0
    if "--version" in flags:
        print(VERSION)
        return 0
    options, given = module.COMMAND.parse(words)
    _spare_matplotlib()
    find_temporary_folder([given.get("log_dir"), *map(vars(options).get, WRITTEN)])
    work = partial(module.run, options, given, command_line(name, words))
    if not module.COMMAND.results:
        return work()
    print_json(options.json, work)
    return 0


def _without_command(word: str) -> int:
    if word == "--version":
        print(VERSION)
    elif word in ("-h", "--help"):
        print(_overview())
    elif word.startswith("-"):
        raise UserError(f"{word}: expected a command first, such as: cifar-lab fit {word}")
    else:
        raise UserError(unknown("command", word, COMMANDS))
    return 0


def _overview() -> str:
    lines = [
        f"{VERSION}: CIFAR-10 in PyTorch Lightning\n",
        f"usage: {program('COMMAND', as_typed=True)} [--FLAG VALUE ...]\n",
        *(f"  {name:<22}{text}" for name, text in COMMANDS.items()),
        "\nCOMMAND --help explains a command; --version prints the version.",
        f"\nexample: {program('fit', as_typed=True)} --model cnn",
    ]
    return "\n".join(lines)


def run_guarded(prog: str, work: Callable[[], int], interrupted: str = "Interrupted.") -> int:
    """Do the work of a command; print what went wrong, and return the exit status."""
    status = 0
    try:
        status = work()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        discard(sys.stdout)
        return status or errors.PIPE_CLOSED
    except UserError as error:
        tell(f"{prog}: {error}")
        return errors.WRONG_INPUT
    except TrainingEndedError as ended:
        if ended.status == errors.PIPE_CLOSED:
            discard(sys.stdout)
        if ended.status in (errors.INTERRUPTED, errors.TERMINATED):
            tell(f"\n{ended} {interrupted}")
        else:
            tell(f"{prog}: {ended}")
        return ended.status
    except (MemoryError, RuntimeError) as error:
        if not errors.is_out_of_memory(error):
            raise
        told = f"out of memory ({errors.first_line(error)})"
        tell(f"{prog}: {told}. A smaller --batch_size needs less.")
        return errors.FAILED
    except OSError as error:  # of the system, such as a folder that nothing can be written to
        tell(f"{prog}: {errors.first_line(error)}")
        return errors.FAILED
    except KeyboardInterrupt:
        tell(f"\n{interrupted}")
        return errors.INTERRUPTED


def program(name: str, as_typed: bool = False) -> str:
    """Return how to call a command again in the way that this process was called.

    That is the console command, the script of its name, or ``python -m cifar_lab``. The command and
    the interpreter have their paths or, with ``as_typed``, only their names.
    """
    called = Path(sys.argv[0])
    python = "python" if as_typed else _shown_path(sys.executable)
    if called.stem == "cifar-lab":
        words = [called.stem if as_typed else _shown_path(sys.argv[0]), name]
    elif called.parent.name == "scripts" and called.stem == name.replace("-", "_"):
        words = [python, sys.argv[0]]
    else:
        words = [python, "-m", "cifar_lab", name]
    return shlex.join(words)


def _shown_path(text: str) -> str:
    """Return a path as people write it: its name if the shell finds it, relative if it is below."""
    path, absolute = Path(text), Path(os.path.abspath(text))
    found = shutil.which(path.name)
    if found and os.path.abspath(found) == str(absolute):
        return path.name
    if not absolute.is_relative_to(Path.cwd()):
        return text
    below = absolute.relative_to(Path.cwd())
    return str(below) if len(below.parts) > 1 else os.path.join(os.curdir, below)


def command_line(name: str, words: Sequence[str]) -> str:
    """Return the words of a command as files record them."""
    return shlex.join(["cifar-lab", name, *words])


def _prepare_output() -> None:
    """Make every name printable, and let a process work without an output or error stream."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as the error stream is


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Handle the signals until a run takes them over."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = dict.fromkeys(errors.WARNINGS, _terminate) | {signal.SIGINT: _interrupt}
        for number, handler in handlers.items():
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _terminate(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; in an import exit at once, since NumPy's swallows it."""
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:
            os.write(2, b"\nInterrupted.\n")
            os._exit(errors.INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _spare_matplotlib() -> None:
    """Load matplotlib only to draw, and silence its messages about folders and fonts.

    torchmetrics, which Lightning imports, would load it in every process, for plots of its own.
    That takes half a second, and fails where no temporary folder can be written.
    """
    from lightning_utilities.core.imports import RequirementCache

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if "torchmetrics" not in sys.modules:
        is_there = RequirementCache.__bool__
        RequirementCache.__bool__ = (  # type: ignore[method-assign]
            lambda self: self.requirement != "matplotlib" and is_there(self)
        )


def tell(text: str) -> None:
    """Print to the error stream, if it is open."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: Any) -> None:
    """Send nothing more to a pipe that nobody reads; Python would complain when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
