"""``scripts/report.py``: trains what is missing, draws the figures, writes the table and the page.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_lab.command_flags import Parser, add_data, add_hardware, add_json, expanded, flags_of
from cifar_lab.command_line import check_writable, command, print_json, writing
from cifar_lab.errors import UserError
from cifar_lab.integers import integers

if TYPE_CHECKING:
    from cifar_lab.parsing import FitPlan
    from cifar_lab.report.runs import Run
    from cifar_lab.report.systems import System

DESCRIPTION = """\
Trains the eight systems of the lab report by its protocol, or takes the runs that are there, and
writes its eight figures (PNG and SVG), results.json with every number, and the pages report.md and
report.html with a table of the report's figures beside these. Exit status: 0 done, 1 a training
failed, 2 wrong input, 130 interrupted; the same command goes on with what is missing."""
DEFAULT_OUTPUT = Path("lightning_logs/report")


@command("report.py", "Interrupted; the same command goes on with what is missing.")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    options = _parse(argv)
    print_json(options, lambda: _run(options, shlex.join(["scripts/report.py", *argv])))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("report.py", DESCRIPTION)
    add = parser.add_argument
    add("--systems", default="all", metavar="N,N", help="by number or recipe (default: all)")
    add("--seeds", metavar="N,N", help="seeds for the MLPs (default: 0,1,2; with --quick 0)")
    add("--cnn_seeds", default="0", metavar="N,N", help="seeds for the CNN (default: %(default)s)")
    add("--quick", action="store_true", help="shortened recipes, for a look")
    add("--log_dir", type=expanded, metavar="FOLDER", help="of the runs (default: OUTPUT/runs)")
    add("--no_train", action="store_true", help="only take the runs that are there")
    add(
        "--reference",
        type=expanded,
        metavar="FOLDER",
        help="write the scalars of the runs here too",
    )
    add(
        "--output",
        type=expanded,
        default=DEFAULT_OUTPUT,
        metavar="FOLDER",
        help="of the figures, the table and the pages (default: %(default)s)",
    )
    add_hardware(parser)
    add_data(parser)
    add_json(parser)
    return parser.parse(argv)


def _run(options: argparse.Namespace, words: str) -> dict[str, Any]:
    from cifar_lab.report import systems

    chosen = systems.choose(options.systems)
    seeds = integers("--seeds", options.seeds or ("0" if options.quick else "0,1,2"))
    cnn_seeds = integers("--cnn_seeds", options.cnn_seeds)
    log_dir = options.log_dir or options.output / "runs"
    flags = _flags(options, log_dir)
    plans = {
        system: [
            systems.plan(system, seed, options.quick, flags)
            for seed in (cnn_seeds if system.recipe == "cnn" else seeds)
        ]
        for system in chosen
    }
    for flag, folder in (("--output", options.output), ("--reference", options.reference)):
        check_writable(flag, folder and folder / "results.json")  # before hours of training
    runs = _collect(plans, log_dir, train=not options.no_train)
    return _write(runs, options, words)


def _flags(options: argparse.Namespace, log_dir: Path) -> list[str]:
    given = flags_of(options, "source", "data_dir", "accelerator", "precision")
    return ["--log_dir", str(log_dir), *given]


def _collect(
    plans: dict[System, list[FitPlan]], log_dir: Path, train: bool
) -> dict[System, list[Run]]:
    """The runs of all plans; those that are missing are trained, or left out."""
    from cifar_lab.report import runs

    # Without training the images may be gone.
    images = runs.images_of(next(iter(plans.values()))[0]) if train else None
    found: dict[System, list[Run]] = {}
    for system, wanted in plans.items():
        for plan in wanted:
            run = runs.find(plan, images)
            if run is None and images is not None:
                print(f"\n--- {plan.recipe.title}, seed {plan.settings.seed}\n", flush=True)
                run = runs.train(plan, images)
            if run is not None:
                found.setdefault(system, []).append(run)
    if not found:
        raise UserError(f"{log_dir}: none of the runs is there; leave --no_train out to train them")
    runs.check_same_images([run for several in found.values() for run in several])
    return found


def _write(
    runs: dict[System, list[Run]], options: argparse.Namespace, words: str
) -> dict[str, Any]:
    from cifar_lab.report.figures import draw_figures
    from cifar_lab.report.page import write_pages
    from cifar_lab.report.reference import write_reference
    from cifar_lab.report.results import gather, write
    from cifar_lab.report.table import markdown

    folder = options.output
    results = gather(runs, options.quick)
    with writing("--output", folder / "results.json"):
        write(results, folder / "results.json")
        figures = [
            path
            for system, found in runs.items()
            if system.figures
            for path in draw_figures(system, found, folder)
        ]
        pages = write_pages(results, figures, folder, words)
    if options.reference:
        with writing("--reference", options.reference / "mlp"):
            for system, found in runs.items():
                write_reference(system, found, options.reference)
    print(f"\n{markdown(results)}\n\nfigures, table and pages: {folder}")
    return {**results, "files": [str(path) for path in (*pages, *figures)]}
