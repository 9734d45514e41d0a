"""``scripts/speedrun.py``: what accuracy a recipe reaches in what time.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from cifar_lab.command_flags import (
    Parser,
    add_data,
    add_hardware,
    add_json,
    expanded,
    flags_of,
    underscored,
)
from cifar_lab.command_line import check_writable, command, print_json, writing
from cifar_lab.errors import UserError
from cifar_lab.inference.evaluate_command import TTA
from cifar_lab.integers import integers

FIGURES = (".svg", ".png", ".pdf")
VIEWS = TTA[1:]  # all but the image alone
DESCRIPTION = """\
Trains a recipe on all training images with several seeds, reads the test set at the end alone, and
prints accuracy, that of the mean of several views of each image, and seconds of training, with
means over the seeds. With --max_epochs 12,25,50 a row for each length: accuracy against time. Any
other flag goes to every run, as scripts/fit.py takes it. Runs that --log_dir holds already are not
run again. Exit status: 0 done, 1 a training failed, 2 wrong input, 130 interrupted; the same
command goes on."""


@command("speedrun.py", "Interrupted; the same command goes on.")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    options, others = _parse(argv)
    print_json(options, lambda: _run(options, others))
    return 0


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = Parser("speedrun.py", DESCRIPTION)
    add = parser.add_argument
    add("--recipe", default="fast_cnn", metavar="NAME", help="(default: %(default)s)")
    add("--seeds", default="0,1,2", metavar="N,N", help="(default: %(default)s)")
    add("--max_epochs", metavar="N,N", help="how long to train (default: the recipe's)")
    add(
        "--tta",
        choices=VIEWS,
        default="flip_shift",
        help="views of the second accuracy, as scripts/evaluate.py takes them "
        "(default: %(default)s)",
    )
    add(
        "--log_dir",
        default="lightning_logs/speedrun",
        type=expanded,
        metavar="FOLDER",
        help="of the runs (default: %(default)s)",
    )
    add("--output", type=expanded, metavar="FILE", help="write the numbers here too, as JSON")
    add(
        "--figure",
        type=expanded,
        metavar="FILE",
        help="draw accuracy against time (.svg, .png, .pdf)",
    )
    add_hardware(parser)
    add_data(parser)
    add_json(parser)
    return parser.parse_known_args(underscored(argv))


def _run(options: argparse.Namespace, others: list[str]) -> dict[str, Any]:
    seeds = integers("--seeds", options.seeds)
    epochs = integers("--max_epochs", options.max_epochs) if options.max_epochs else []
    flags = flags_of(options, "source", "data_dir", "log_dir", "accelerator", "precision") + others

    if options.figure and options.figure.suffix not in FIGURES:
        endings = ", ".join(FIGURES)
        raise UserError(f"--figure {options.figure}: expected a name that ends in {endings}")
    check_writable("--output", options.output)
    check_writable("--figure", options.figure)

    from cifar_lab.atomic import write_json
    from cifar_lab.data.image_set import DESCRIPTIONS
    from cifar_lab.studies.speedrun import run_speedrun, table
    from cifar_lab.studies.speedrun_figure import draw

    found = run_speedrun(options.recipe, seeds, epochs, options.tta, flags)
    found = {"command": _repeats(options, others, found["data"]), **found}
    images = found["data"] or DESCRIPTIONS["synthetic"]
    print(f"\n{images}, fingerprint {found['fingerprint']}\n\n{table(found['rows'])}")
    if options.output:
        with writing("--output", options.output):
            write_json(options.output, found)
    if options.figure:
        with writing("--figure", options.figure):
            draw(found["rows"], options.figure)
    return found


def _repeats(options: argparse.Namespace, others: list[str], data: str) -> str:
    """The command that repeats this elsewhere: no folder of this machine in it."""
    given = flags_of(options, "recipe", "seeds", "max_epochs", "tta", "accelerator", "precision")
    images = ["--data_dir", data] if data else ["--source", "synthetic"]
    return shlex.join(["scripts/speedrun.py", *given, *others, *images])
