"""Figures as files that are the same, byte for byte, when what they show is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

DPI = 120


def save_figure(figure: Figure, path: Path, salt: str) -> None:
    """Writes a figure without a date and without random names.

    Args:
        figure: to write.
        path: of the file; its suffix names the format.
        salt: names the parts of an SVG; another for each figure that may stand on the same page.
    """
    metadata: dict[str, Any] = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }.get(path.suffix, {})
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(path, metadata=metadata, dpi=DPI)
