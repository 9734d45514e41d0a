"""The figure of the study of initialisations: accuracy, loss and weights over the steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_lab.report.band import plot_band
from cifar_lab.report.saving import save_figure
from cifar_lab.studies.initialisation import VARIANTS, ProbedRun, Variant

Curve = Callable[[ProbedRun], tuple[np.ndarray, np.ndarray]]


def draw(runs: dict[str, list[ProbedRun]], path: Path) -> None:
    """Draws the runs of each variant: a line for the mean over the seeds, a band for their range.

    Args:
        runs: see ``run_study``.
        path: of the figure; its suffix names the format.
    """
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for variant in VARIANTS:
            if variant.colour:
                _add(left, variant, runs, _accuracy)
                _add(middle, variant, runs, _loss)
                _add(right, variant, runs, _learned)
        _dress(left, "test accuracy (%)", "(a) test images")
        _dress(middle, "loss of the batch (nats)", "(b) training batches")
        _dress(right, "learned part of the variance (%)", "(c) output of the first layer")
        middle.set(xscale="log", yscale="log")
        for axis in (middle.xaxis, middle.yaxis):
            axis.set_major_formatter("{x:g}")
        right.set(ylim=(0, 105))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path, salt="initialisation")


def _add(axes: Axes, variant: Variant, runs: dict[str, list[ProbedRun]], curve: Curve) -> None:
    steps = curve(runs[variant.name][0])[0]
    values = np.array([curve(run)[1] for run in runs[variant.name]])  # (seeds, steps)
    plot_band(axes, steps, values, variant.colour, linestyle=variant.line, label=variant.label)


def _dress(axes: Axes, ylabel: str, title: str) -> None:
    axes.set(xlabel="step", ylabel=ylabel)
    axes.set_title(title, loc="left", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _accuracy(run: ProbedRun) -> tuple[np.ndarray, np.ndarray]:
    points = [point for point in run["points"] if "accuracy" in point]
    return _column(points, "step"), 100 * _column(points, "accuracy")


def _loss(run: ProbedRun) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss between steps that are equally far apart on a logarithmic axis."""
    losses = np.array(run["losses"])
    edges = np.unique(np.geomspace(1, len(losses) + 1, 60).astype(int))
    means = [losses[a - 1 : b - 1].mean() for a, b in pairwise(edges)]
    return edges[:-1], np.array(means)


def _learned(run: ProbedRun) -> tuple[np.ndarray, np.ndarray]:
    points = run["points"]
    return _column(points, "step"), 100 * _column(points, "learned")


def _column(points: list[dict[str, float]], name: str) -> np.ndarray:
    return np.array([point[name] for point in points])
