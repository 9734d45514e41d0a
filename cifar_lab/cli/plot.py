"""``cifar-lab plot``: the curves of one or several runs as a figure."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.main import tell
from cifar_lab.cli.output import check_figure, writing
from cifar_lab.cli.parser import Command
from cifar_lab.errors import UserError
from cifar_lab.files import explained
from cifar_lab.settings import Setting, setting


@dataclass(frozen=True)
class _Options:
    output: Path | None = setting(
        None, "figure: .svg, .png or .pdf (default: curves.png in the folder that holds the runs)"
    )


COMMAND = Command(
    "plot",
    "Plots the accuracy and the loss of runs, finished or not, against the optimizer steps.\n"
    "Finished runs that differ only in their seeds share a line, their mean, with a band from the\n"
    "lowest to the highest. Other lines are labelled with the settings that differ.\n\n"
    "Exit status: 0 done, 2 wrong input.",
    _Options,
    positionals=(
        Setting("runs", str, [], "run folders, or model folders for all runs in them", "arguments"),
    ),
    example="lightning_logs/mlp lightning_logs/cnn",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from cifar_lab.run.curves import plot
    from cifar_lab.run.plot import save_figure

    check_figure("--output", options.output)
    found = [run for name in options.runs for run in _runs_in(name)]
    figure = plot(found)
    path = options.output
    if path is None:
        with explained("the runs have no folder in common; give --output"):  # drives of Windows
            path = Path(os.path.commonpath([run.path.absolute() for run in found])) / "curves.png"
    with writing("--output", path):
        save_figure(figure, path, salt="curves")
    print(f"curves: {path}")
    return 0


def _runs_in(name: str) -> list[Any]:
    """Return the runs of a folder; if there are several, those that have points."""
    from cifar_lab.run.curves import has_points
    from cifar_lab.run.run import runs_in

    found = runs_in(name)
    drawn = [run for run in found if has_points(run)]
    if not drawn:
        raise UserError(f"{name}: {'no points yet' if found else 'no run here'}")
    for run in found:
        if run not in drawn:
            tell(f"{run.path}: left out, no points yet")
    return drawn
