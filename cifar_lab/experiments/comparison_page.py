"""The page of a comparison: a table of the groups, and a figure of the accuracy of each seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from cifar_lab.experiments.comparison import Group, describe_difference
from cifar_lab.experiments.page import html_page
from cifar_lab.experiments.tables import mean_and_deviation
from cifar_lab.files import write_atomically
from cifar_lab.run.plot import BLUE, VERMILION, save_figure, style

LONGEST = 30  # characters of a group's name in the figure: the end of its path


def write_page(
    groups: Sequence[Group], differences: Sequence[Mapping[str, Any]], folder: Path, command: str
) -> Path:
    """Write ``compare.html``, and its figure as PNG and SVG; return the path of the page.

    ``differences`` are those of all groups but the first, see ``comparison.difference``.
    """
    figure = draw(groups)
    for suffix in (".png", ".svg"):
        save_figure(figure, folder / f"compare{suffix}", salt="compare")
    split, base = groups[0].split, groups[0].name
    about = f"Accuracies on the {split} split, mean ± standard deviation over the seeds. "
    about += f"Differences are those from the first group, `{base}`."
    shown = ["–", *map(describe_difference, differences)]
    rows = [_cells(*pair) for pair in zip(groups, shown, strict=True)]
    page = html_page("Comparison of runs", about, rows, [folder / "compare.svg"], command)
    path = folder / "compare.html"
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    return path


def _cells(group: Group, difference: str) -> dict[str, str]:
    return {
        "group": f"`{group.name}`",
        "accuracy (%)": mean_and_deviation(list(group.accuracies.values())),
        "seeds": ", ".join(map(str, group.runs)),
        "difference": difference,
    }


def draw(groups: Sequence[Group]) -> Figure:
    """Draw a point for each seed of each group, and a line at the mean of a group."""
    figure = Figure(figsize=(6.4, 1.2 + 0.6 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for place, group in enumerate(groups):
        values = [100 * accuracy for accuracy in group.accuracies.values()]
        axes.plot(values, [place] * len(values), "o", color=BLUE, alpha=0.6)
        axes.vlines(fmean(values), place - 0.3, place + 0.3, color=VERMILION)
    names = [
        name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
        for name in (group.name for group in groups)
    ]
    axes.set_yticks(range(len(groups)), names, parse_math=False)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    style(axes, f"accuracy on the {groups[0].split} split (%)", "", "points: seeds; lines: means")
    return figure
