"""``scripts/soak.py``: kills a run again and again and compares it with one never killed.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import random
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_lab.command_flags import Parser, add_data, add_json, expanded, positive_int
from cifar_lab.command_line import command, print_json
from cifar_lab.errors import UserError
from cifar_lab.recipes import models

DESCRIPTION = """\
Trains a model twice with scripts/fit.py: once undisturbed, and once killed (SIGKILL) at random
moments, one of them while a checkpoint is written, and resumed each time. Then weights, optimizer
and curves are compared bit by bit. Exit status: 0 the same, 1 a difference or a run that could not
go on, 2 wrong input, 130 interrupted."""


@command("soak.py")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    options = _parse(argv)
    return 0 if print_json(options, lambda: _run(options))["same"] else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("soak.py", DESCRIPTION)
    add = parser.add_argument
    add("--model", choices=models(), default="mlp", help="what to train (default: %(default)s)")
    add("--kills", type=positive_int, default=10, metavar="N", help="(default: %(default)s)")
    add("--max_steps", type=positive_int, default=500, metavar="N", help="(default: %(default)s)")
    add("--checkpoint_seconds", type=float, default=0.5, metavar="S", help="(default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=0,
        help="random seed for the times of the kills (default: %(default)s)",
    )
    add("--flags", default="", metavar="'TEXT'", help="more flags for fit.py, as --flags='--lr 1'")
    add(
        "--output",
        type=expanded,
        metavar="FOLDER",
        help="of the runs (default: one that is removed)",
    )
    add_data(parser)
    add_json(parser)
    return parser.parse(argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    if options.output:
        try:
            options.output.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(prefix="soak_", dir=options.output)
        except OSError as error:
            reason = error.strerror
            raise UserError(f"--output {options.output}: cannot be written ({reason})") from error
        return _soak(options, Path(folder))
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        return _soak(options, Path(folder))


def _soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from cifar_lab.soak.comparison import differences
    from cifar_lab.soak.killed_run import KilledRun, precision_of, run_undisturbed

    words = ["--model", options.model, "--max_steps", str(options.max_steps), "--progress", "none"]
    words += ["--checkpoint_minutes", str(options.checkpoint_seconds / 60), "--source"]
    words += [options.source or "auto", *_split(options.flags)]
    words += ["--data_dir", options.data_dir] if options.data_dir else []
    seconds, start_up = run_undisturbed(words, folder / "whole")
    print(f"undisturbed: {seconds:.0f} s, {start_up:.0f} s of it before the first step", flush=True)
    # Decided once: a run that is killed at its start would decide "auto" anew.
    killed = KilledRun([*words, "--precision", precision_of(folder / "whole")], folder / "killed")
    moments = random.Random(options.seed)
    for number in range(options.kills):
        share = (seconds - start_up) / options.kills
        delay = moments.uniform(0, 1.2 * share)
        if number % 5 == 4:  # of the start, where nothing may happen to the run at all
            delay = -moments.uniform(0, start_up)
        told = killed.run_and_kill(delay, while_writing=number == options.kills // 2)
        print(f"kill {number + 1}: {told}", flush=True)
    killed.finish()
    found = killed.failures or differences(folder / "whole", folder / "killed")
    same = not found and not killed.unreadable
    results = {**killed.counts(), "differences": found, "same": same}
    _tell(results)
    return results


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"--flags {text}: {error}") from error


def _tell(found: dict[str, Any]) -> None:
    print(
        f"\n{found['kills']} kills survived; {found['written']} checkpoints seen, "
        f"{found['cut_off']} cut off while written, {found['unreadable']} unreadable"
    )
    print("weights, optimizer and curves are the same" if found["same"] else "NOT the same:")
    for line in found["differences"]:
        print(f"  {line}")
