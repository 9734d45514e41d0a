"""The eight figures of the report: accuracy and training loss of four systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_lab.errors import UserError
from cifar_lab.recipes import recipes
from cifar_lab.report.band import plot_band
from cifar_lab.report.runs import Run
from cifar_lab.report.saving import save_figure
from cifar_lab.report.systems import System

# Of Okabe and Ito, which colour-blind people tell apart: https://jfly.uni-koeln.de/color/
TEST, TRAIN, REPORT = "#0072B2", "#999999", "#D55E00"
# A loss whose peak is so many times its median is drawn on a logarithmic axis.
PEAKED = 10


def draw_figures(system: System, runs: list[Run], folder: Path) -> list[Path]:
    """Draws the two figures of a system, each as PNG and SVG.

    Args:
        system: with figures.
        runs: of it, one a seed, with the same steps.
        folder: that gets ``figure_N.png`` and ``figure_N.svg``.

    Returns:
        The PNG files.
    """
    assert system.figures is not None
    accuracy, loss = system.figures
    title = recipes()[system.recipe].title
    return [
        _save(_accuracy(runs, f"Figure {accuracy}: {title}, accuracy"), folder, accuracy),
        _save(_loss(runs, f"Figure {loss}: {title}, training loss"), folder, loss),
    ]


def _accuracy(runs: list[Run], title: str) -> Figure:
    figure, axes = _new(title, "accuracy (%)")
    _add(axes, runs, "acc/train", TRAIN, "training batches", 100)
    _add(axes, runs, "acc/test", TEST, "test images", 100)
    report = runs[0].summary["report_accuracy"]
    if report is not None:
        label = f"report's best point, {100 * report:.2f} %"
        axes.axhline(100 * report, color=REPORT, linestyle="--", linewidth=1, label=label)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _loss(runs: list[Run], title: str) -> Figure:
    figure, axes = _new(title, "cross entropy (nats)")
    _add(axes, runs, "loss/train", TRAIN, "training batches", 1)
    _add(axes, runs, "loss/test", TEST, "test images", 1)
    losses = runs[0].curve("loss/train")[1]
    if losses.max() > PEAKED * np.median(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="upper right", frameon=False)
    return figure


def _new(title: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel="optimizer steps", ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _add(axes: Axes, runs: list[Run], tag: str, colour: str, label: str, factor: float) -> None:
    """Adds a line for the mean over the seeds and a band for their range."""
    curves = [dict(zip(*run.curve(tag), strict=True)) for run in runs]
    # A run that went on has points where it had ended, too.
    steps = sorted(set(curves[0]).intersection(*curves))
    if not steps:
        raise UserError(f"{runs[0].path}: no {tag} in metrics.csv, or none that all runs have")
    values = factor * np.array([[curve[step] for step in steps] for curve in curves])
    seeds = f", mean and range of {len(runs)} seeds" if len(runs) > 1 else ""
    plot_band(axes, steps, values, colour, label=label + seeds)


def _save(figure: Figure, folder: Path, number: int) -> Path:
    for suffix in (".svg", ".png"):
        save_figure(figure, folder / f"figure_{number}{suffix}", salt=f"figure {number}")
    return folder / f"figure_{number}.png"
