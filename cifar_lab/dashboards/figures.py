"""Figures of an evaluation: confusion matrix, accuracies of the classes, most confident mistakes.

They are drawn through matplotlib's objects, without pyplot: no window, no state outlives them.
A confusion matrix is int (C, C), numbers of images: rows are true classes, columns are predicted
classes, as in torchmetrics. The row of a class without images is zero.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cifar_lab.dashboards.predictions import Mistakes
from cifar_lab.run.plot import BLUE, DPI, VERMILION

ANNOTATED = 20  # classes at most for which numbers fit into the cells of a confusion matrix
COLUMNS = 4  # mistakes side by side
CELL = (56, 42)  # height and width of a mistake with its caption and margins, in pixels of images
CAPTION, MARGIN = 22, 5  # pixels above an image and beside it
PLAIN: dict[str, Any] = {"parse_math": False}  # a $ in a name is no formula
CELL_WIDTH = 1.25  # inches of a mistake
CAPTION_STYLE: dict[str, Any] = {"ha": "center", "va": "bottom", **PLAIN}


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix.

    A cell shows its share of the true class, so that a row adds up to 100 % and classes of
    different sizes can be compared.
    """
    count = len(class_names)
    side = min(max(4.2, 2 + 0.34 * count), 16)  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    percent = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    if count <= ANNOTATED:
        for (row, column), value in np.ndenumerate(percent):
            text = f"{value:.0f}" if value >= 0.5 else "·"
            colour = "white" if value > 55 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    else:
        figure.colorbar(image, ax=axes, shrink=0.6, label="% of the true class")
    size = min(9, 0.6 * 72 * side / count)  # points; neighbouring names do not touch
    axes.set_xticks(range(count), class_names, rotation=45, ha="right", fontsize=size, **PLAIN)
    axes.set_yticks(range(count), class_names, fontsize=size, **PLAIN)
    axes.set(xlabel="predicted class", ylabel="true class (a row adds up to 100 %)")
    correct, total = int(np.trace(matrix)), int(matrix.sum())
    title = f"accuracy {100 * correct / max(total, 1):.2f} % ({correct:,} of {total:,} images)"
    axes.set_title(title, fontsize=10)
    return figure


def class_accuracy_figure(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw a bar for the accuracy of each class, and a line at their mean."""
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
    axes.set_yticks(range(len(class_names)), class_names, **PLAIN)
    axes.invert_yaxis()
    axes.set(xlim=(0, 108), xlabel="accuracy (%)")
    axes.set_xticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", frameon=False)
    return figure


def mistakes_figure(mistakes: Mistakes, class_names: Sequence[str]) -> Figure:
    """Draw the images of mistakes, if there are any, with both classes and the confidence."""
    count = len(mistakes.images)
    rows = max(1, -(-count // COLUMNS))
    sheet = np.full((rows * CELL[0], COLUMNS * CELL[1], 3), 255, np.uint8)
    figure = Figure(figsize=(CELL_WIDTH * COLUMNS, 1.7 * rows + 0.5))
    axes = figure.add_axes((0, 0, 1, 1.7 * rows / figure.get_figheight()))
    axes.set_axis_off()
    longest = len("predicted: ") + max(map(len, class_names), default=0)
    size = min(8, 72 * CELL_WIDTH / (0.65 * longest))  # points; neighbouring captions do not touch
    for place, image in enumerate(mistakes.images):
        top, left = place // COLUMNS * CELL[0] + CAPTION, place % COLUMNS * CELL[1] + MARGIN
        sheet[top : top + image.shape[1], left : left + image.shape[2]] = image.transpose(1, 2, 0)
        true, predicted = (class_names[n[place]] for n in (mistakes.labels, mistakes.predicted))
        confidence = f"at {100 * mistakes.confidence[place]:.1f} %"
        caption = f"true: {true}\npredicted: {predicted}\n{confidence}"
        axes.text(left + image.shape[2] / 2, top - 2, caption, fontsize=size, **CAPTION_STYLE)
    if not count:
        axes.text(COLUMNS * CELL[1] / 2, CELL[0] / 2, "no mistakes", ha="center")
    axes.imshow(sheet, aspect="auto")  # one picture: axes for each image take seconds
    return figure


def rasterise(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, uint8 (H, W, 3).

    ``SummaryWriter.add_figure`` does the same through pyplot and its global state.
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
