"""Runs of fit.py in processes of their own that can be killed, at a moment that a test chooses.

The processes are forked from a server that has everything imported, so that each starts at once.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess

OUTPUT = "output.txt"  # of the newest process, in the present folder: what it said
Signals = tuple[signal.Signals, ...]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["cifar_lab.training.fit"])


def start(words: list[str], spot: str = "") -> BaseProcess:
    """Starts fit.py in the present folder; ``spot`` is a key of ``SPOTS`` with ``:COUNT``."""
    process = CONTEXT.Process(target=_child, args=(words, os.getcwd(), spot, dict(os.environ)))
    process.start()
    return process


def run(words: list[str], spot: str = "") -> int:
    """The exit status of a run; that of a kill is ``-signal.SIGKILL``."""
    process = start(words, spot)
    process.join(timeout=240)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(words)
    return process.exitcode


def _child(words: list[str], folder: str, spot: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    told = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(told, 1), os.dup2(told, 2)
    from cifar_lab.cli import main

    if spot:
        name, _, count = spot.partition(":")
        owner, hook, numbers = SPOTS[name]()
        _die_at(owner, hook, int(count), numbers)
    sys.argv = ["cifar_lab/__main__.py"]
    sys.exit(main(["fit", *words]))


def _die_at(owner: object, hook: str, count: int, numbers: Signals) -> None:
    """Makes the ``count``-th call of a function send signals to this process, before it begins."""
    original: Callable = getattr(owner, hook)
    calls = 0

    def counting(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        for number in numbers if calls == count else ():
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, hook, counting)


def _of_classifier(hook: str, *numbers: signal.Signals):
    def find() -> tuple[object, str, Signals]:
        from cifar_lab.models.classifier import ImageClassifier

        return ImageClassifier, hook, numbers or (signal.SIGKILL,)

    return find


def _of_atomic(hook: str):
    def find() -> tuple[object, str, Signals]:
        from cifar_lab import files

        return files.os, hook, (signal.SIGKILL,)

    return find


def _of_start() -> tuple[object, str, Signals]:
    from cifar_lab.training import fit

    return fit, "build_model", (signal.SIGUSR1,)


def _of_best() -> tuple[object, str, Signals]:
    from cifar_lab.training import checkpoints

    return checkpoints, "copy_file", (signal.SIGKILL,)


SPOTS = {
    "start_sigusr1": _of_start,
    "step": _of_classifier("on_train_batch_end"),
    "evaluation": _of_classifier("validation_step"),
    "test": _of_classifier("test_step"),
    "sync": _of_atomic("fsync"),  # a file beside its place
    "rename": _of_atomic("replace"),
    "best": _of_best,  # last.ckpt is written and becomes best.ckpt too
    "step_sigint": _of_classifier("on_train_batch_end", signal.SIGINT),
    "step_sigterm": _of_classifier("on_train_batch_end", signal.SIGTERM),
    "step_sigusr1": _of_classifier("on_train_batch_end", signal.SIGUSR1),
    "evaluation_sigterm": _of_classifier("validation_step", signal.SIGTERM),
    "step_sigint_twice": _of_classifier("on_train_batch_end", signal.SIGINT, signal.SIGINT),
    "test_sigint": _of_classifier("test_step", signal.SIGINT),
}
