"""Plotting the curves of one or several runs: ``cifar_lab.plot(runs)``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cifar_lab.errors import UserError
from cifar_lab.plan import decisive
from cifar_lab.recipes import LIMITS
from cifar_lab.run import plot as drawing
from cifar_lab.run_settings import RUN
from cifar_lab.settings import as_text

if TYPE_CHECKING:
    from cifar_lab.run.run import Run

AXES = {"acc": (100, "accuracy (%)"), "loss": (1, "loss (nats)")}
STYLES: dict[str, dict[str, Any]] = {
    "train": {"linestyle": "--", "linewidth": 1},
    "val": {"linewidth": 2.2},
    "test": {"linewidth": 2.2, "marker": "o", "markersize": 5},
}
COLOURS = (
    drawing.BLUE,
    drawing.VERMILION,
    drawing.GREEN,
    drawing.PURPLE,
    drawing.ORANGE,
    drawing.SKY,
    drawing.BLACK,
)
MOST_LINES = 20  # in a figure
LEGEND_WIDTH = 104  # characters in a row
TEXT: Any = {"font.size": 13, "text.parse_math": False}  # for slides; a $ in a name is no formula


def plot(runs: Sequence[Run]) -> Figure:
    """Plot accuracy and loss of runs against the optimizer steps; notebooks show the figure.

    Finished runs that differ only in their seeds share a line, the mean of the seeds, with a band
    from the lowest to the highest. All other runs have their own lines, which are labelled by what
    differs: the model, the recipe or the settings, then the seed, then the folder.

    Args:
        runs: the runs, finished or not.

    Raises:
        UserError: A run has no points yet, its files are damaged, or there are too many lines.
    """
    groups = _groups(runs)
    if len(groups) > MOST_LINES:
        told = f"{len(groups)} lines, but only {MOST_LINES} can be told apart"
        raise UserError(f"{told}: name fewer runs")
    title, names = _names(groups)
    colours = _colours(len(groups))
    columns = max(1, min(4, LEGEND_WIDTH // (8 + max(map(len, names)))))
    rows = 0 if len(groups) == 1 else ceil(len(groups) / columns)
    with mpl.rc_context(TEXT):
        figure = drawing.NotebookFigure(figsize=(12, 5.4 + 0.27 * rows), layout="constrained")
        for axes, (name, (_, label)) in zip(figure.subplots(1, 2), AXES.items(), strict=True):
            for group, colour in zip(groups, colours, strict=True):
                _draw(axes, name, group, colour)
            drawing.style(axes, "optimizer steps", label)
        drawing.log_if_peaked(axes)
        axes.legend(handles=_splits(groups, colours), frameon=False, fontsize=11)
        if rows:
            lines = [Line2D([], [], color=c, linewidth=2.2) for c in colours]
            options: Any = {"loc": "outside lower center", "ncols": columns, "frameon": False}
            figure.legend(lines, names, **options)
        if title:
            figure.suptitle(title)
    return figure


def has_points(run: Run) -> bool:
    """Return whether a run has points of its accuracy or its loss."""
    tags = {f"{name}/{split}" for name in AXES for split in STYLES}
    return run.folder.metrics.is_file() and any(len(run.curves.get(tag, [()])[0]) for tag in tags)


def common_curve(runs: Sequence[Run], tag: str) -> tuple[list[int], np.ndarray]:
    """Return the steps (N,) at which all runs have a scalar, and its values, (runs, N).

    A resumed run also has a point where it was interrupted.
    """
    curves = [dict(zip(*run.curves.get(tag, ((), ())), strict=True)) for run in runs]
    steps = sorted(set(curves[0]).intersection(*curves))
    return steps, np.array([[curve[step] for step in steps] for curve in curves])


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs of each line: finished runs share one if they differ only in their seeds."""
    groups: dict[Any, list[Run]] = {}
    repeated: Counter[Any] = Counter()
    for run in {run.path.absolute(): run for run in runs}.values():
        if not has_points(run):
            raise UserError(f"{run.path}: no points yet")
        images = run.summary["data"]["fingerprint"] if run.finished else run.path
        settings = tuple(sorted(decisive({**run.config, "seed": None}).items()))
        key = (run.folder.name, images, settings)
        seed = (key, run.config.get("seed"))
        groups.setdefault((key, repeated[seed]), []).append(run)  # a repetition is another line
        repeated[seed] += 1
    if not groups:
        raise UserError("no runs to draw")
    return list(groups.values())


def _names(groups: Sequence[Sequence[Run]]) -> tuple[str, list[str]]:
    """Return the title of a figure, from what all lines share, and a label for each line."""
    firsts = [group[0] for group in groups]
    kinds, seeds = _kinds(firsts), [_seeds(group) for group in groups]
    parts = []
    for run, kind in zip(firsts, kinds, strict=True):
        alike = [other for other, its in zip(firsts, kinds, strict=True) if its == kind]
        parts.append(_differences(run, alike))
    title = [words[0] for words in (kinds, seeds) if len(set(words)) == 1]
    if kinds[0] not in title:
        parts = [[kind, *part] for kind, part in zip(kinds, parts, strict=True)]
    if seeds[0] not in title:
        parts = [[*part, seed] for part, seed in zip(parts, seeds, strict=True)]
    names = [", ".join(part) for part in parts]
    if len(set(names)) < len(names):
        folder = os.path.commonpath([run.path.absolute() for run in firsts])
        paths = [os.path.relpath(run.path, folder) for run in firsts]
        pairs = zip(names, paths, strict=True)
        names = [
            ", ".join(filter(None, pair)) if names.count(pair[0]) > 1 else pair[0] for pair in pairs
        ]
    return ", ".join(title), names


def _kinds(runs: Sequence[Run]) -> list[str]:
    """Return the name of the model of each run, or of its recipe where its model has several."""
    recipes = [(run.folder.name, run.config.get("recipe")) for run in runs]
    several = Counter(model for model, _ in set(recipes))
    return [str(recipe or model) if several[model] > 1 else model for model, recipe in recipes]


def _differences(run: Run, others: Sequence[Run]) -> list[str]:
    """Return the settings of a run in which one of the others differs, such as ``lr=0.01``."""
    found = [decisive({**other.config, "seed": None}) for other in others]
    whole = {**{name: entry.default for name, entry in RUN.items()}, **run.config}
    names = dict.fromkeys(name for settings in found for name in settings)
    differing = [name for name in names if len({settings.get(name) for settings in found}) > 1]
    there = [name for name in differing if name not in LIMITS or whole.get(name) is not None]
    return [f"{name}={as_text(whole.get(name))}" for name in there]


def _seeds(group: Sequence[Run]) -> str:
    if len(group) > 1:
        return f"mean of {len(group)} seeds"
    (run,) = group
    return f"seed {run.config.get('seed')}{'' if run.finished else ', unfinished'}"


def _colours(count: int) -> list[Any]:
    """Return a colour for each line; None for a single line, which has a colour for each split.

    If there are more lines than colours in the palette, they have a series of shades.
    """
    if count == 1:
        return [None]
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.92, count)))


def _draw(axes: Axes, name: str, group: Sequence[Run], colour: Any) -> None:
    """Draw the curves of a line: the accuracy ("acc") or the loss of each split."""
    for split, line in STYLES.items():
        steps, values = common_curve(group, f"{name}/{split}")
        if steps:
            line = {**line, "marker": "o"} if len(steps) == 1 else line
            values = AXES[name][0] * values
            drawing.plot_band(
                axes, steps, values, drawing.SPLITS[split] if colour is None else colour, **line
            )


def _splits(groups: Sequence[Sequence[Run]], colours: Sequence[Any]) -> list[Any]:
    """Return the entries of a legend: the style of each split that was drawn, and the band."""
    runs = [run for group in groups for run in group]
    tags = {tag for run in runs for tag, (steps, _) in run.curves.items() if len(steps)}
    handles: list[Any] = []
    for split, line in STYLES.items():
        if not tags.isdisjoint(f"{name}/{split}" for name in AXES):
            shade = drawing.GREY if len(colours) > 1 else drawing.SPLITS[split]
            handles.append(Line2D([], [], color=shade, label=drawing.NAMES[split], **line))
    if max(map(len, groups)) > 1:
        label = "lowest to highest seed"
        handles.append(Patch(color=drawing.GREY, alpha=0.3, linewidth=0, label=label))
    return handles
