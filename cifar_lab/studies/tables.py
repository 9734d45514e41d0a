"""The tables of the study of initialisations, as Markdown."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from cifar_lab.report.table import line
from cifar_lab.studies.initialisation import VARIANTS, ProbedRun

RESULTS = (
    "variant",
    "best test accuracy (%)",
    "last test accuracy (%)",
    "loss at step 1",
    "highest loss",
    "at step",
    "dead units at step 200 / at the end (%)",
)
INSIDE = (
    "variant",
    "largest logit at step 0",
    "lr × curvature at step 0 / at the end",
    "norm of the first weights at step 0 / at the end",
    "learned part of what the first layer computes (%)",
    "training loss, last 250 steps",
)


def tables(runs: dict[str, list[ProbedRun]]) -> str:
    """Both tables; numbers are means over the seeds, ``±`` the standard deviation over them."""
    labels = {variant.name: variant.label for variant in VARIANTS}
    results = [[labels[name], *_results(found)] for name, found in runs.items()]
    inside = [[labels[name], *_inside(found)] for name, found in runs.items()]
    return f"{_table(RESULTS, results)}\n\n{_table(INSIDE, inside)}"


def _results(runs: list[ProbedRun]) -> list[str]:
    curves = [[100 * p["accuracy"] for p in run["points"] if "accuracy" in p] for run in runs]
    peaks = [max(run["losses"]) for run in runs]
    steps = [1 + run["losses"].index(peak) for run, peak in zip(runs, peaks, strict=True)]
    return [
        _spread([max(curve) for curve in curves]),
        _spread([curve[-1] for curve in curves]),
        _number([run["losses"][0] for run in runs]),
        _number(peaks),
        f"{min(steps)}–{max(steps)}" if min(steps) < max(steps) else f"{steps[0]}",
        f"{_dead(runs, 200)} / {_dead(runs, None)}",
    ]


def _inside(runs: list[ProbedRun]) -> list[str]:
    return [
        _number([run["points"][0]["logit"] for run in runs]),
        _rate_times_curvature(runs),
        " / ".join(_number([run["points"][end]["first"] for run in runs]) for end in (0, -1)),
        _number([100 * run["points"][-1]["learned"] for run in runs]),
        _number([mean(run["losses"][-250:]) for run in runs]),
    ]


def _rate_times_curvature(runs: list[ProbedRun]) -> str:
    """Rate times curvature at both ends; Adam's steps do not go by it."""
    config = runs[0]["config"]
    if config.get("optimizer", "sgd") != "sgd":  # numpy_mlp knows SGD only
        return "–"
    ends = [_number([config["lr"] * run["curvature"][end] for run in runs]) for end in (0, -1)]
    return " / ".join(ends)


def _dead(runs: list[ProbedRun], step: int | None) -> str:
    """Dead units at a step, at the end for None; a dash where a run has no such point."""
    points = [_point(run, step) for run in runs]
    shares = [point["dead"] for point in points if point is not None]
    return f"{100 * mean(shares):.1f}" if len(shares) == len(points) else "–"


def _point(run: ProbedRun, step: int | None) -> dict[str, Any] | None:
    if step is None:
        return run["points"][-1]
    return next((point for point in run["points"] if point["step"] == step), None)


def _spread(values: list[float]) -> str:
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{deviation}"


def _number(values: list[float]) -> str:
    """The mean with three significant digits, without an exponent where it is readable."""
    value = mean(values)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(header: tuple[str, ...], rows: list[list[str]]) -> str:
    return "\n".join(map(line, [header, ["---"] * len(header), *rows]))
