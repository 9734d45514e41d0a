"""The figure of a speedrun of several lengths: accuracy against the time of training."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from cifar_lab.report.saving import save_figure
from cifar_lab.studies.speedrun import views_of


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws a point a row, the mean over its seeds, with a bar from the worst to the best seed.

    Args:
        rows: of ``run_speedrun``; all of one recipe.
        path: of the figure; its suffix names the format.
    """
    rows = sorted(rows, key=lambda row: fmean(row["train_seconds"]))
    minutes = [fmean(row["train_seconds"]) / 60 for row in rows]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(5.5, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, label, style in (
            ("accuracies_of_views", f"mean of {views_of(rows[0])} views", "o--"),
            ("accuracies", "the image itself", "o-"),
        ):
            axes.errorbar(minutes, *_means_and_bars(rows, name), fmt=style, label=label, capsize=2)
        axes.set(xscale="log", xlabel="minutes of training", ylabel="test accuracy (%)")
        axes.set_xticks(minutes, [_label(*point) for point in zip(rows, minutes, strict=True)])
        axes.minorticks_off()
        axes.set_title(f"{rows[0]['recipe']}, {rows[0]['hardware'][0]}", loc="left", fontsize=9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        save_figure(figure, path, salt="speedrun")


def _means_and_bars(
    rows: list[dict[str, Any]], name: str
) -> tuple[list[float], tuple[list[float], list[float]]]:
    """Means over the seeds in %, and how far the worst and the best seed are from them."""
    means = [100 * fmean(row[name]) for row in rows]
    below = [mean - 100 * min(row[name]) for row, mean in zip(rows, means, strict=True)]
    above = [100 * max(row[name]) - mean for row, mean in zip(rows, means, strict=True)]
    return means, (below, above)


def _label(row: dict[str, Any], minutes: float) -> str:
    length = f"{row['epochs']} epochs" if row["epochs"] else f"{row['steps']} steps"
    return f"{minutes:.3g}\n{length}"
