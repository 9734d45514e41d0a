"""``scripts/speedrun.py``: what accuracy a recipe reaches in what time.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_lab.command_line import (
    Parser,
    add_data,
    add_json,
    command,
    flags_of,
    integers,
    print_json,
)
from cifar_lab.errors import UserError

DESCRIPTION = """\
Trains a recipe on all training images with several seeds, reads the test set once, at the end, and
prints accuracy and seconds of training, with means over the seeds. With --max_epochs 12,25,50 a row
for each length: accuracy against time. Runs that --log_dir holds already are not run again. Exit
status: 0 done, 2 wrong input, 130 interrupted; the same command goes on."""


@command("speedrun.py", "Interrupted; the same command goes on.")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    options = _parse(argv)
    print_json(options, lambda: _run(options))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("speedrun.py", DESCRIPTION)
    add = parser.add_argument
    add("--recipe", default="fast_cnn", metavar="NAME", help="(default: %(default)s)")
    add("--seeds", default="0,1,2", metavar="N,N", help="(default: %(default)s)")
    add("--max_epochs", metavar="N,N", help="how long to train (default: the recipe's)")
    add(
        "--log_dir",
        default="lightning_logs/speedrun",
        type=Path,
        metavar="FOLDER",
        help="of the runs (default: %(default)s)",
    )
    add("--output", type=Path, metavar="FILE", help="write the numbers here too, as JSON")
    add("--accelerator", default="auto", metavar="auto|cpu|gpu|mps", help="what trains")
    add("--precision", default="auto", metavar="NAME", help="as scripts/fit.py takes it")
    add_data(parser)
    add_json(parser)
    return parser.parse(argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    seeds = integers("--seeds", options.seeds)
    epochs = integers("--max_epochs", options.max_epochs) if options.max_epochs else []
    flags = flags_of(options, "source", "data_dir", "log_dir", "accelerator", "precision")

    if options.output:  # what is wrong with it is said before hours of training
        _write(options.output)

    from cifar_lab.studies.speedrun import run_speedrun, table

    found = run_speedrun(options.recipe, seeds, epochs, flags)
    found = {"command": _repeats(options, found["data"]), **found}
    print(f"\n{table(found['rows'])}")
    if options.output:
        _write(options.output, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


def _write(path: Path, content: str | None = None) -> None:
    """Writes the file; without content only makes its folder."""
    from cifar_lab.atomic import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            write_atomically(path, content.encode())
    except OSError as error:
        raise UserError(f"--output {path}: cannot be written ({error.strerror})") from error


def _repeats(options: argparse.Namespace, data: str) -> str:
    """The command that repeats this elsewhere: no folder of this machine in it."""
    given = flags_of(options, "recipe", "seeds", "max_epochs", "accelerator", "precision")
    return shlex.join(["scripts/speedrun.py", *given, "--data_dir", data])
