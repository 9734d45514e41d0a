"""A figure of predictions: each image as the model sees it, 32×32 pixels, with its classes.

It is drawn with matplotlib's objects, without pyplot, so that no window and no state remains.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifar_lab.data.pictures import printable
from cifar_lab.inference.prediction import Prediction
from cifar_lab.run.plot import BLUE, GREY, VERMILION, save_figure

COLUMNS = 3  # images side by side
BARS = 10  # largest number of classes
LETTERS = 38  # number of letters at the end of the path that are shown
# Inches: a cell, the side of its image, where its bars begin, their largest width, the margin.
WIDTH, HEIGHT, SIDE, START, LONGEST, MARGIN = 3.7, 1.55, 1.1, 2.0, 1.0, 0.2
PLAIN: dict[str, Any] = {"parse_math": False, "fontsize": 8}  # a $ in a name is not a formula


def write_predictions(predictions: Sequence[Prediction], left_out: int, path: Path) -> None:
    """Draw predictions into a file whose suffix is one of plot.FORMATS.

    Args:
        predictions: predictions of images that could be read, at least one.
        left_out: number of further images, which the figure mentions.
        path: path of the file, which is written completely or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    columns = min(COLUMNS, len(predictions))
    rows = -(-len(predictions) // columns)
    width, height = columns * WIDTH, rows * HEIGHT + MARGIN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # shared, since axes for each image would take seconds
    axes.set_axis_off()
    for place, prediction in enumerate(predictions):
        left, top = place % columns * WIDTH + MARGIN, place // columns * HEIGHT + MARGIN
        _draw(axes, prediction, left, top)
    axes.set(xlim=(0, width), ylim=(height, 0))
    if left_out:
        text = f"{left_out:,} more image{'s are' if left_out > 1 else ' is'} not shown"
        axes.text(MARGIN, height - 0.06, text, **PLAIN)
    with warnings.catch_warnings():
        # Letters of a name that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        save_figure(figure, path, "predictions")


def _draw(axes: Axes, prediction: Prediction, left: float, top: float) -> None:
    """Draw an image and its bars below the name of its file, in inches from the corner."""
    name = printable(prediction.path)
    name = name if len(name) <= LETTERS else f"…{name[-LETTERS:]}"
    axes.text(left, top, name, va="bottom", **PLAIN)
    assert prediction.image is not None
    top += 0.06
    extent = (left, left + SIDE, top + SIDE, top)
    axes.imshow(prediction.image.transpose(1, 2, 0), extent=extent, interpolation="nearest")
    axes.add_patch(Rectangle((left, top), SIDE, SIDE, fill=False, edgecolor=GREY, linewidth=0.5))
    if prediction.unlike:
        y = top + SIDE + 0.06
        axes.text(left, y, "like no class", va="top", color=VERMILION, **PLAIN)
    classes = prediction.classes[:BARS]
    step = SIDE / max(len(classes), 3)
    size = min(8, 72 * step)
    for number, (name, probability) in enumerate(classes):
        y = top + (number + 0.5) * step
        colour = GREY if number or prediction.unlike else BLUE
        axes.barh(y, probability * LONGEST, 0.7 * step, left + START, color=colour)
        text = {**PLAIN, "fontsize": size, "va": "center"}
        axes.text(left + START - 0.05, y, name[:14], ha="right", **text)
        axes.text(left + START + probability * LONGEST + 0.05, y, f"{probability:.0%}", **text)
