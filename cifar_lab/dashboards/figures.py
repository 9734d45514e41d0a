"""Figures of one evaluation: the accuracy of each class, and the mistakes made most confidently.

They are drawn through matplotlib's objects, without pyplot: no window, no state that outlives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cifar_lab.dashboards.predictions import Mistakes

# Blue and vermilion of Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), which people
# with any colour vision tell apart.
BLUE, VERMILION = "#0072B2", "#D55E00"
COLUMNS = 4  # mistakes side by side
CELL = (56, 42)  # height and width of a mistake with its caption and margins, in its pixels
CAPTION, MARGIN = 22, 5  # space above an image and beside it
CAPTION_STYLE: dict[str, Any] = {
    "ha": "center",
    "va": "bottom",
    "fontsize": 8,
    "parse_math": False,  # a $ in a name is a $
}


def class_accuracy_figure(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws a bar for each class, and a line at their mean.

    Args:
        matrix: int (C, C), counts of images; rows true, columns predicted.
        class_names: C names.
    """
    totals = matrix.sum(1)
    percent = 100 * np.diag(matrix) / np.maximum(totals, 1)
    mean = percent[totals > 0].mean() if totals.any() else 0.0
    figure = Figure(figsize=(5, 1.4 + 0.28 * len(class_names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(class_names)), percent, color=BLUE)
    label = f"mean of the classes, {mean:.1f} %"
    axes.axvline(mean, color=VERMILION, linestyle="--", label=label, zorder=2)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8, bbox=box, zorder=3)
    axes.set_yticks(range(len(class_names)), class_names, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(0, 108), xlabel="accuracy (%)")
    axes.set_xticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", frameon=False)
    return figure


def mistakes_figure(mistakes: Mistakes, class_names: Sequence[str]) -> Figure:
    """Draws images that were classified wrongly, the most confident first.

    Args:
        mistakes: K of them, K from 0.
        class_names: of the numbers in ``mistakes``.
    """
    count = len(mistakes.images)
    rows = max(1, -(-count // COLUMNS))
    sheet = np.full((rows * CELL[0], COLUMNS * CELL[1], 3), 255, np.uint8)
    figure = Figure(figsize=(1.25 * COLUMNS, 1.7 * rows + 0.5))
    axes = figure.add_axes((0, 0, 1, 1.7 * rows / figure.get_figheight()))
    axes.set_axis_off()
    for place, image in enumerate(mistakes.images):
        top, left = place // COLUMNS * CELL[0] + CAPTION, place % COLUMNS * CELL[1] + MARGIN
        sheet[top : top + image.shape[1], left : left + image.shape[2]] = image.transpose(1, 2, 0)
        middle = left + image.shape[2] / 2
        axes.text(middle, top - 2, _caption(mistakes, place, class_names), **CAPTION_STYLE)
    if not count:
        axes.text(COLUMNS * CELL[1] / 2, CELL[0] / 2, "no mistakes", ha="center")
    axes.imshow(sheet, aspect="auto")  # one picture for all: an axes for each takes seconds
    return figure


def _caption(mistakes: Mistakes, place: int, class_names: Sequence[str]) -> str:
    true, said = (class_names[n[place]] for n in (mistakes.labels, mistakes.predicted))
    return f"true: {true}\npredicted: {said}\nat {100 * mistakes.confidence[place]:.1f} %"


def rasterise(figure: Figure) -> np.ndarray:
    """Gives a figure's pixels, uint8 (H, W, 3).

    SummaryWriter's ``add_figure`` does the same through pyplot, with the global state that this
    module does without.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
