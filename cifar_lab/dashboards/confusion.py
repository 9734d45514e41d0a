"""The confusion matrix as a figure: which classes a model takes for which.

Rows are true classes, columns predicted ones (torchmetrics' convention). A cell shows its share of
the true class, so that a row adds up to 100 % and classes of different sizes compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ANNOTATED = 20  # classes; with more of them the numbers would not fit into their cells


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws a confusion matrix.

    Args:
        matrix: int (C, C), counts of images; rows true, columns predicted. A class without images
            is a row of zeros.
        class_names: C names.

    Returns:
        A figure that belongs to no window: write it with ``savefig``, or let it go.

    Raises:
        ValueError: the matrix is not square or does not fit the names.
    """
    matrix = np.asarray(matrix)
    count = len(class_names)
    if matrix.shape != (count, count):
        raise ValueError(f"matrix of shape {matrix.shape}: expected ({count}, {count})")
    side = min(max(4.2, 2 + 0.34 * count), 16)  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    percent = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    if count <= ANNOTATED:
        _annotate(axes, percent)
    else:
        figure.colorbar(image, ax=axes, shrink=0.6, label="% of the true class")
    size = min(9, 0.6 * 72 * side / count)  # points; names of neighbours do not touch
    style: dict[str, Any] = {"fontsize": size, "parse_math": False}  # a $ in a name is a $
    axes.set_xticks(range(count), class_names, rotation=45, ha="right", **style)
    axes.set_yticks(range(count), class_names, **style)
    axes.set(xlabel="predicted class", ylabel="true class (a row adds up to 100 %)")
    axes.set_title(_title(matrix), fontsize=10)
    return figure


def _annotate(axes: Axes, percent: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(percent):
        text = f"{value:.0f}" if value >= 0.5 else "·"
        colour = "white" if value > 55 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _title(matrix: np.ndarray) -> str:
    total = int(matrix.sum())
    correct = int(np.trace(matrix))
    return f"accuracy {100 * correct / max(total, 1):.2f} % ({correct:,} of {total:,} images)"
