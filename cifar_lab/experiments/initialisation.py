"""Why the report's PyTorch MLP falls behind its NumPy MLP: runs, one change at a time.

Both are 3072–100–10 with the same rate, batch, steps and inputs (raw pixels minus the mean image);
they differ in the initialisation. ``probe.py`` records what happens in a run. The answer is in
``docs/initialisation.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_lab.errors import UserError
from cifar_lab.experiments.probe import FILE, Probe
from cifar_lab.experiments.study import Study
from cifar_lab.experiments.tables import markdown_table, mean_and_deviation
from cifar_lab.files import read_json
from cifar_lab.plan import Plan
from cifar_lab.run import plot
from cifar_lab.run.run import Run

# The report's protocol, on hardware that computes the same everywhere: float32 on the CPU.
PROTOCOL = {
    "model": "mlp",
    "val_size": 0,
    "source": "cifar10",
    "accelerator": "cpu",
    "precision": "32-true",
    "log_every": 50,
    "dashboard": "off",
    "progress": "none",
}
ADAM = {"optimizer": "adam", "lr": 2e-4}
STANDARDIZE = {"normalization": "standardize"}
ProbedRun = dict[str, Any]  # the content of probe.json, and all settings as "config"
Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Variant:
    """Settings that differ from those of the report's PyTorch MLP, and a colour in the figure."""

    settings: Mapping[str, Any]
    colour: str = ""  # without one, the variant is only in the tables
    line: str = "-"


VARIANTS = {
    "NumPy, both layers small": Variant({"model": "numpy_mlp"}, plot.BLACK, ":"),
    "both layers small": Variant({"init": "report"}, plot.BLUE),
    "PyTorch's default": Variant({}, plot.VERMILION),
    "first layer small": Variant({"init": "report_first"}, plot.SKY),
    "second layer small": Variant({"init": "report_last"}, plot.ORANGE),
    "default, lr 2e-4": Variant({"lr": 2e-4}, plot.PURPLE, "--"),
    "default, Adam 2e-4": Variant(ADAM),
    "both small, Adam 2e-4": Variant({"init": "report", **ADAM}),
    "default, standardised": Variant(STANDARDIZE),
    "default, standardised, lr 0.1": Variant({**STANDARDIZE, "lr": 0.1}, plot.GREEN, "--"),
}


def probed_runs(
    plans: Mapping[str, Plan], seeds: Sequence[int], command: str
) -> dict[str, list[ProbedRun]]:
    """Return the records of each run; train missing runs; raise what ``Study.runs`` raises."""
    for plan in plans.values():
        if plan.settings.val_size != 0:
            told = f"--val_size {plan.settings.val_size}"
            raise UserError(f"{told}: the study has no validation split")
    # A resumed run would lack the records of its first part.
    study = Study(plans, seeds, command, anew=True, file=FILE, callbacks=lambda: [Probe()])
    return {name: [_read_probe(run) for run in runs] for name, runs in study.runs().items()}


def _read_probe(run: Run) -> ProbedRun:
    kinds = {"losses": list, "points": list, "curvature": list}
    try:
        return {"config": run.config, **read_json(run.path / FILE, kinds)}
    except UserError as error:
        raise UserError(f"{error}; remove it to train it again") from error


def tables(runs: Mapping[str, Sequence[ProbedRun]]) -> str:
    """Return both tables; numbers are means over the seeds, ``±`` the standard deviation."""
    results, inside = (
        markdown_table([{"variant": name, **cells(found)} for name, found in runs.items()])
        for cells in (_results, _inside)
    )
    return f"{results}\n\n{inside}"


def _results(runs: Sequence[ProbedRun]) -> dict[str, str]:
    curves = [[p["accuracy"] for p in run["points"] if "accuracy" in p] for run in runs]
    peaks = [max(run["losses"]) for run in runs]
    steps = [1 + run["losses"].index(peak) for run, peak in zip(runs, peaks, strict=True)]
    return {
        "best test accuracy (%)": mean_and_deviation([max(curve) for curve in curves]),
        "last test accuracy (%)": mean_and_deviation([curve[-1] for curve in curves]),
        "loss at step 1": _number([run["losses"][0] for run in runs]),
        "highest loss": _number(peaks),
        "at step": "–".join(map(str, sorted({min(steps), max(steps)}))),
        "dead units at step 200 / at the end (%)": f"{_dead(runs, 200)} / {_dead(runs, None)}",
    }


def _inside(runs: Sequence[ProbedRun]) -> dict[str, str]:
    config = runs[0]["config"]
    first, last = ([run["points"][end] for run in runs] for end in (0, -1))
    rates = [[config["lr"] * run["curvature"][end] for run in runs] for end in (0, -1)]
    is_sgd = config.get("optimizer", "sgd") == "sgd"  # numpy_mlp has SGD only; Adam's steps differ
    norms = [[point["first"] for point in points] for points in (first, last)]
    learned = _number([100 * point["learned"] for point in last])
    return {
        "largest logit at step 0": _number([point["logit"] for point in first]),
        "lr × curvature at step 0 / at the end": " / ".join(map(_number, rates)) if is_sgd else "–",
        "norm of the first weights at step 0 / at the end": " / ".join(map(_number, norms)),
        "learned part of what the first layer computes (%)": learned,
        "training loss, last 250 steps": _number([mean(run["losses"][-250:]) for run in runs]),
    }


def _dead(runs: Sequence[ProbedRun], step: int | None) -> str:
    """Return the dead units at a step, or at the end for None; a dash if a run lacks the point."""
    found = [[p for p in run["points"] if step in (None, p["step"])] for run in runs]
    if not all(found):
        return "–"
    which = -1 if step is None else 0
    return f"{100 * mean(points[which]['dead'] for points in found):.1f}"


def _number(values: Sequence[float]) -> str:
    """Return the mean with three significant digits, without an exponent if it is readable."""
    value = mean(values)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def draw(runs: Mapping[str, Sequence[ProbedRun]], path: Path) -> None:
    """Draw accuracy, loss and learned part over the steps: mean and range over the seeds."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for name, variant in VARIANTS.items():
            if variant.colour:
                line = {"linestyle": variant.line, "label": name}
                for axes, tag in ((left, "accuracy"), (middle, "loss"), (right, "learned")):
                    curves = [_loss(r) if tag == "loss" else _curve(r, tag) for r in runs[name]]
                    values = np.array([values for _, values in curves])  # (seeds, steps)
                    plot.plot_band(axes, curves[0][0], values, variant.colour, **line)
        plot.style(left, "step", "test accuracy (%)", "(a) test images")
        plot.style(middle, "step", "loss of the batch (nats)", "(b) training batches")
        learned = "learned part of the variance (%)"
        plot.style(right, "step", learned, "(c) output of the first layer")
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        middle.set(xscale="log", yscale="log")
        for axis in (middle.xaxis, middle.yaxis):
            axis.set_major_formatter("{x:g}")
        right.set(ylim=(0, 105))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        plot.save_figure(figure, path, salt="initialisation")


def _curve(run: ProbedRun, name: str) -> Curve:
    """Return the steps of the points that have a value of this name, and the values in %."""
    points = [point for point in run["points"] if name in point]
    return np.array([p["step"] for p in points]), 100 * np.array([p[name] for p in points])


def _loss(run: ProbedRun) -> Curve:
    """Return mean losses between steps that are equally far apart on a logarithmic axis."""
    losses = np.array(run["losses"])
    edges = np.unique(np.geomspace(1, len(losses) + 1, 60).astype(int))
    means = [losses[a - 1 : b - 1].mean() for a, b in pairwise(edges)]
    return edges[:-1], np.array(means)
