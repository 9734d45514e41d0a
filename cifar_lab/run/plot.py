"""Figures of runs: colours, bands, and files that are reproducible byte for byte.

They use matplotlib's objects without pyplot, so that no window and no state remains.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cifar_lab.files import write_atomically

# The palette of Okabe and Ito, which people with colour blindness can tell apart:
# https://jfly.uni-koeln.de/color/
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
SPLITS = {"train": GREY, "val": VERMILION, "test": BLUE}
NAMES = {"train": "training batches", "val": "validation images", "test": "test images"}
PEAKED = 3  # a peak that is more than so many times the 90th percentile hides the rest of a loss
DPI = 120
FORMATS = (".svg", ".png", ".pdf")


class NotebookFigure(Figure):
    """A figure that a notebook shows, also without ``%matplotlib inline``."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png")
        return drawn.getvalue()


def plot_band(axes: Axes, steps: Any, values: np.ndarray, colour: str, **line: Any) -> None:
    """Draw the mean of several seeds as a line, and their range as a band, or a bar at one point.

    ``steps`` is (N,), ``values`` is (seeds, N), and ``line`` are arguments of ``Axes.plot``.
    """
    axes.plot(steps, values.mean(0), color=colour, **{"linewidth": 1.5, **line})
    if len(steps) == 1:
        axes.vlines(steps, values.min(0), values.max(0), color=colour)
    elif len(values) > 1:
        axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)


def style(axes: Axes, xlabel: str, ylabel: str, title: str = "") -> None:
    """Give axes their labels, a light grid, and no frame at the top and the right."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if title:
        axes.set_title(title, loc="left", fontsize=9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def log_if_peaked(axes: Axes) -> None:
    """Make the y axis of losses logarithmic if a peak at the start would hide the rest."""
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    if np.nanmax(values) > PEAKED * np.nanpercentile(values, 90) and np.nanmin(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def save_figure(figure: Figure, path: Path, salt: str) -> None:
    """Write a figure without a date and without random names; the suffix names the format.

    ``salt`` makes the ids in an SVG file differ from those of others on the same page.
    """
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    kind, drawn = path.suffix, io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(drawn, format=kind[1:], metadata=metadata.get(kind, {}), dpi=DPI)
    write_atomically(path, drawn.getbuffer())
