"""The file of a confusion matrix, and the folder that it goes to."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from pathlib import Path

from cifar_lab.atomic import write_atomically
from cifar_lab.dashboards.confusion import confusion_figure
from cifar_lab.errors import UserError
from cifar_lab.inference.evaluation import Evaluation

FIGURE_DPI = 150


def open_folder(output: Path | None, checkpoint: Path) -> Path:
    """The folder for the figure, made where it is missing; tried before the work begins.

    Args:
        output: as the user named it; None is the checkpoint's.
        checkpoint: its file.

    Raises:
        UserError: nothing can be written there.
    """
    folder = checkpoint.parent if output is None else output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        what = f"{folder}: cannot be written to ({error.strerror})"
        if output is None:
            raise UserError(f"{what}; give --output a folder for the figure") from error
        raise UserError(f"--output {what}") from error
    return folder


def write_figure(evaluation: Evaluation, class_names: tuple[str, ...], path: Path) -> None:
    """Draws the confusion matrix into a PNG file, which is written whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    # The first run of matplotlib on a machine tells of the font cache it builds.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    figure = confusion_figure(evaluation.confusion, class_names)
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        # A class's name in letters that the font lacks is drawn as boxes; its row is known.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(drawn, format="png", dpi=FIGURE_DPI)
    try:
        write_atomically(path, drawn.getbuffer())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
