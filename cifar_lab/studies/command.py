"""``scripts/study_initialisation.py``: runs what is missing, draws the figure, prints the tables.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cifar_lab.command_flags import Parser, expanded, underscored
from cifar_lab.command_line import check_writable, command, writing
from cifar_lab.errors import UserError
from cifar_lab.integers import integers

DESCRIPTION = """\
Trains the report's MLP with its two initialisations and, one change at a time, with other rates,
optimizers and input scales; draws the figure and prints the tables of docs/initialisation.md. Runs
that --log_dir holds already are not run again. Any other flag goes to every run, as
scripts/fit.py takes it. Exit status: 0 done, 2 wrong input, 130 interrupted."""


@command("study_initialisation.py", "Interrupted; the same command goes on.")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    options, others = _parse(argv)
    _run(options, others)
    return 0


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = Parser("study_initialisation.py", DESCRIPTION)
    add = parser.add_argument
    add("--seeds", default="0,1,2,3,4", metavar="N,N", help="of the runs (default: %(default)s)")
    add("--data_dir", metavar="FOLDER", help="default: $CIFAR_LAB_DATA, else ./data")
    add(
        "--log_dir",
        default="lightning_logs/initialisation",
        type=expanded,
        metavar="FOLDER",
        help="of the finished runs (default: %(default)s)",
    )
    add(
        "--output",
        default="initialisation.svg",
        type=expanded,
        metavar="FILE",
        help="the figure, .svg or .png (default: %(default)s)",
    )
    return parser.parse_known_args(underscored(argv))


def _run(options: argparse.Namespace, flags: list[str]) -> None:
    seeds = integers("--seeds", options.seeds)
    if options.output.suffix not in (".svg", ".png"):
        raise UserError(f"--output {options.output}: expected a name that ends in .svg or .png")
    check_writable("--output", options.output)
    if options.data_dir is not None:
        flags = ["--data_dir", options.data_dir, *flags]

    from cifar_lab.studies.figure import draw
    from cifar_lab.studies.initialisation import run_study
    from cifar_lab.studies.tables import tables
    from cifar_lab.training.console import quiet

    quiet()
    runs = run_study(seeds, options.log_dir, flags)
    with writing("--output", options.output):
        draw(runs, options.output)
    print(tables(runs))
    print(f"\nfigure: {options.output}")
