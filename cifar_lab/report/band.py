"""A curve of several seeds: a line for their mean and a band for their range."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes


def plot_band(axes: Axes, steps: Any, values: np.ndarray, colour: str, **line: Any) -> None:
    """Draws the curve.

    Args:
        axes: to draw on.
        steps: (N,), where the points are.
        values: (seeds, N).
        colour: of line and band.
        line: more settings of the line, as ``Axes.plot`` takes them.
    """
    axes.plot(steps, values.mean(0), color=colour, linewidth=1.5, **line)
    lowest, highest = values.min(0), values.max(0)
    axes.fill_between(steps, lowest, highest, color=colour, alpha=0.2, linewidth=0)
