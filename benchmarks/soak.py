"""Kills a run again and again, and resumes it: ``python benchmarks/soak.py --help``.

Nothing heavy is imported before the flags are understood.
"""

from __future__ import annotations

import random
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.help import help_of
from cifar_lab.cli.main import run_guarded
from cifar_lab.cli.output import print_json, writing
from cifar_lab.cli.parser import Command
from cifar_lab.errors import FAILED, UserError
from cifar_lab.settings import PositiveFloat, PositiveInt, Seed, setting


@dataclass(frozen=True)
class Options:
    """The flags of the trial, apart from those of the data."""

    model: str = setting("mlp", "model to train")
    kills: PositiveInt = setting(10, "number of kills")
    max_steps: PositiveInt = setting(500, "number of optimizer steps")
    checkpoint_seconds: PositiveFloat = setting(0.5, "seconds between checkpoints")
    seed: Seed = setting(0, "random seed of the moments of the kills")
    flags: str = setting("", "more flags of fit, as --flags='--lr 1'")
    output: Path | None = setting(None, "folder for the runs (else they are removed)")
    json: bool = setting(False, "print JSON, and nothing else")


COMMAND = Command(
    "soak",
    "Trains a model twice: once undisturbed, and once killed (SIGKILL) at random moments, one of\n"
    "them while a checkpoint is written, and resumed each time. Then weights, optimizer and\n"
    "curves are compared bit by bit. Exit status: 0 the same, 1 a difference or a run that could\n"
    "not be resumed, 2 wrong input, 130 interrupted.",
    Options,
    shared=("data_dir", "source"),
    example="--model cnn --kills 20",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trial; return the exit status.

    Args:
        argv: words behind the name of the program; the default is the process's own.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(words):
        print(help_of(COMMAND, [], "soak.py"))
        return 0
    return run_guarded("soak.py", lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    options, given = COMMAND.parse(words)
    found = print_json(options.json, lambda: _compare(options, given))
    return 0 if found["same"] else FAILED


def _compare(options: Any, given: Mapping[str, str]) -> dict[str, Any]:
    words = _words(options, given)
    if not options.output:
        with tempfile.TemporaryDirectory(prefix="soak_") as folder:
            return _soak(options, words, Path(folder))
    with writing("--output", options.output):
        options.output.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="soak_", dir=options.output)
    return _soak(options, words, Path(folder))


def _words(options: Any, given: Mapping[str, str]) -> list[str]:
    """Return the flags of both runs."""
    flags = {
        "model": options.model,
        "max_steps": options.max_steps,
        "progress": "none",
        "checkpoint_minutes": options.checkpoint_seconds / 60,
        **given,
    }
    try:
        more = shlex.split(options.flags)
    except ValueError as error:
        raise UserError(f"--flags {options.flags}: {error}") from error
    return [*(f"--{name}={value}" for name, value in flags.items()), *more]


def _soak(options: Any, words: list[str], folder: Path) -> dict[str, Any]:
    from cifar_lab.run.run import runs
    from killed_run import KilledRun, differences

    whole = KilledRun(words, folder / "whole")
    seconds, start_up = whole.finish()
    if whole.failures:
        raise UserError(whole.failures[0])
    print(f"undisturbed: {seconds:.0f} s, {start_up:.0f} s of it before the first step", flush=True)
    undisturbed = runs(folder / "whole")[-1]
    # A run that is killed at its start would decide anew what "auto" means.
    words = [*words, f"--precision={undisturbed.summary['device']['precision']}"]
    killed = KilledRun(words, folder / "killed")
    for number, delay in enumerate(_delays(options, seconds, start_up)):
        told = killed.run_and_kill(delay, while_writing=number == options.kills // 2)
        print(f"kill {number + 1}: {told}", flush=True)
    killed.finish()
    found = killed.failures or differences(undisturbed, runs(folder / "killed")[-1])
    same = not found and not killed.unreadable
    results = {**killed.counts(), "differences": found, "same": same}
    _print(results)
    return results


def _delays(options: Any, seconds: float, start_up: float) -> list[float]:
    """Return the moments of the kills, as ``KilledRun.run_and_kill`` takes them.

    Every fifth kill comes before the run is opened, when nothing may happen to it at all.
    """
    moments = random.Random(options.seed)
    longest = 1.2 * (seconds - start_up) / options.kills
    delays = [moments.uniform(0, longest) for _ in range(options.kills)]
    delays[4::5] = [-moments.uniform(0, start_up) for _ in delays[4::5]]
    return delays


def _print(found: Mapping[str, Any]) -> None:
    print(
        f"\n{found['kills']} kills survived; {found['written']} checkpoints seen, "
        f"{found['cut_off']} cut off while written, {found['unreadable']} unreadable"
    )
    print("weights, optimizer and curves are the same" if found["same"] else "NOT the same:")
    for line in found["differences"]:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
