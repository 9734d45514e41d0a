"""What the runs of a system came to: means over its seeds, with data, hardware and time.

Written as ``results.json``; the tables are rendered from it.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from cifar_lab.atomic import write_json
from cifar_lab.files import read_json
from cifar_lab.recipes import recipes
from cifar_lab.report.runs import Run
from cifar_lab.report.systems import System

Results = dict[str, Any]


def gather(runs: dict[System, list[Run]], quick: bool) -> Results:
    """The results of all systems, in plain values.

    Args:
        runs: of each system, one a seed.
        quick: whether they were shortened.

    Returns:
        ``{"quick": …, "data": …, "versions": …, "systems": [{"number", "recipe", "title",
        "report", "best", "last", "seeds", "steps", "seconds", "devices"}, …]}``; accuracies are
        fractions, a value for each seed.
    """
    first = next(iter(runs.values()))[0].summary
    data = {**first["data"], "location": Path(first["data"]["location"]).name}
    return {
        "quick": quick,
        "data": data,
        "versions": versions_of([run for row in runs.values() for run in row]),
        "systems": [_system(system, found) for system, found in runs.items()],
    }


def _system(system: System, runs: list[Run]) -> dict[str, Any]:
    recipe = recipes()[system.recipe]
    points = [run.summary["accuracy"]["test"] for run in runs]
    return {
        "number": system.number,
        "recipe": system.recipe,
        "title": recipe.title,
        "report": runs[0].summary["report_accuracy"],
        "best": [round(point["best"], 6) for point in points],
        "best_steps": [point["best_step"] for point in points],
        "last": [round(point["last"], 6) for point in points],
        "seeds": [run.summary["seed"] for run in runs],
        "steps": runs[0].summary["steps"],
        "seconds": [round(run.summary["seconds"]["fit"], 1) for run in runs],
        "devices": sorted({hardware(run.summary) for run in runs}),
    }


def versions_of(runs: list[Run]) -> dict[str, str]:
    """What the runs were made with: of each package the version, or all where they differ."""
    all_versions = [run.summary["versions"] for run in runs]
    names = dict.fromkeys(name for versions in all_versions for name in versions)
    return {
        name: ", ".join(dict.fromkeys(versions[name] for versions in all_versions))
        for name in names
    }


def hardware(summary: dict[str, Any]) -> str:
    """What a run computed on, and in which precision."""
    return f"{summary['device']['name']}, {summary['device']['precision']}"


def write(results: Results, path: Path) -> None:
    """Writes ``results.json``, whole or not at all."""
    write_json(path, results)


def read(path: Path) -> Results:
    """Reads ``results.json``.

    Raises:
        UserError: it is not there or damaged.
    """
    return read_json(path, {"systems": list})


def mean_and_deviation(values: list[float]) -> str:
    """Fractions as percent, "48.46 ± 1.04" (sample standard deviation), or the single value."""
    percent = [100 * value for value in values]
    mean = f"{statistics.fmean(percent):.2f}"
    return mean if len(percent) == 1 else f"{mean} ± {statistics.stdev(percent):.2f}"
