"""The table and the figure of a speed-run; its rows are those of ``speedrun.py``."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from cifar_lab.experiments.tables import markdown_table, mean_and_deviation, mean_time
from cifar_lab.inference.logits import SHIFTS
from cifar_lab.run.plot import save_figure, style

Row = dict[str, Any]


def table(rows: Sequence[Row]) -> str:
    """Return the rows in Markdown."""
    return markdown_table([_cells(row) for row in rows])


def _cells(row: Row) -> dict[str, str]:
    peaks = [value for both in row["convolution_gflops"] for value in both]
    of_views = mean_and_deviation(row["accuracies_of_views"])
    return {
        "recipe": f"`{row['recipe']}`",
        "epochs": str(row["epochs"] or "–"),
        "steps": f"{row['steps']:,}",
        "test accuracy (%)": mean_and_deviation(row["accuracies"]),
        "mean of views (%)": f"{of_views} ({views_of(row)} views)",
        "training": mean_time(row["train_seconds"]),
        "in all": mean_time(row["total_seconds"]),
        "seeds": ", ".join(map(str, row["seeds"])),
        "convolution, GFLOP/s": f"{min(peaks):,.0f}–{max(peaks):,.0f}" if peaks else "–",
        "hardware": "; ".join(row["hardware"]),
    }


def views_of(row: Row) -> int:
    """Return the number of views of an image in the second accuracy of a row."""
    return 2 * len(SHIFTS[row["tta"]])  # each with its mirror image


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw accuracy against time: a point for each row, with a bar from worst to best seed."""
    rows = sorted(rows, key=lambda row: fmean(row["train_seconds"]))
    minutes = [fmean(row["train_seconds"]) / 60 for row in rows]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(5.5, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, label, line in (
            ("accuracies_of_views", f"mean of {views_of(rows[0])} views", "o--"),
            ("accuracies", "the image itself", "o-"),
        ):
            values = 100 * np.array([row[name] for row in rows])  # (rows, seeds), in %
            means = values.mean(1)
            bars = means - values.min(1), values.max(1) - means
            axes.errorbar(minutes, means, bars, fmt=line, label=label, capsize=2)
        title = f"{rows[0]['recipe']}, {rows[0]['hardware'][0]}"
        style(axes, "minutes of training", "test accuracy (%)", title)
        axes.set_xscale("log")
        axes.set_xticks(minutes, [_tick(*point) for point in zip(rows, minutes, strict=True)])
        axes.minorticks_off()
        axes.legend(frameon=False)
        save_figure(figure, path, salt="speedrun")


def _tick(row: Row, minutes: float) -> str:
    length = f"{row['epochs']} epochs" if row["epochs"] else f"{row['steps']} steps"
    return f"{minutes:.3g}\n{length}"
