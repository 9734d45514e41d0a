"""The eight systems of the lab report: their plans, and the results of their runs.

The results are written as ``results.json``; ``report_page.py`` renders tables from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from cifar_lab.dashboards.scalars import EVALUATIONS, by_run
from cifar_lab.errors import UserError
from cifar_lab.experiments.tables import hardware_of, last_quarter, prediction_interval, versions_of
from cifar_lab.files import make_folder
from cifar_lab.plan import Plan
from cifar_lab.recipes import recipes
from cifar_lab.run.metrics import COLUMNS
from cifar_lab.run.run import Run
from cifar_lab.settings import unknown

# A shortened run divides its steps by the first number, and has the second number of evaluations.
QUICK_DIVISOR, QUICK_EVALUATIONS = 25, 4
Results = dict[str, Any]


@dataclass(frozen=True)
class System:
    """One system of the report, and the recipe that trains it."""

    number: int
    recipe: str
    seeds: int  # usual number of seeds; small MLPs scatter more, and cost little
    figures: tuple[int, int] | None = None  # of its accuracy and its loss in the report

    def plan(self, quick: bool = False) -> Plan:
        """Return the plan of its recipe by the report's protocol, shortened if ``quick``."""
        plan = Plan.of(recipe=self.recipe, val_size=0)
        if not quick:
            return plan
        steps = max((plan.settings.max_steps or 0) // QUICK_DIVISOR, QUICK_EVALUATIONS)
        return plan.replace(max_steps=steps, eval_every=steps // QUICK_EVALUATIONS)


SYSTEMS = (
    System(1, "numpy_mlp", 10, (1, 2)),
    System(2, "mlp", 10, (3, 4)),
    System(3, "deep_mlp_4x1000", 5),
    System(4, "deep_mlp_4x1024", 5),
    System(5, "deep_mlp_5x1000", 5),
    System(6, "deep_mlp", 5, (5, 6)),
    System(7, "batchnorm_mlp", 10),
    System(8, "cnn", 5, (7, 8)),
)


def choose(names: Sequence[str]) -> list[System]:
    """Return systems by number or recipe, or "all", in the report's order."""
    if list(names) == ["all"]:
        return list(SYSTEMS)
    known = {key: system for system in SYSTEMS for key in (str(system.number), system.recipe)}
    for name in names or ["none"]:
        if name not in known:
            raise UserError(unknown("--systems", name, [*known, "all"]))
    return sorted({known[name] for name in names}, key=lambda system: system.number)


def gather(runs: Mapping[str, Sequence[Run]], quick: bool) -> Results:
    """Return the results of the runs by recipe, in plain values.

    Accuracies are fractions; lists have a value for each seed. ``last_quarter`` is the mean of the
    evaluations in the last quarter of the steps, and ``prediction_interval`` that of the best point
    of one more run, with a probability of 95 %.
    """
    first = next(iter(runs.values()))[0].summary
    return {
        "quick": quick,
        "data": {**first["data"], "location": Path(first["data"]["location"]).name},
        "versions": versions_of([run for several in runs.values() for run in several]),
        "systems": [_results(s, runs[s.recipe]) for s in SYSTEMS if s.recipe in runs],
    }


def _results(system: System, runs: Sequence[Run]) -> dict[str, Any]:
    points = [run.summary["accuracy"]["test"] for run in runs]
    best = [point["best"] for point in points]
    interval = prediction_interval(best)
    return {
        "number": system.number,
        "recipe": system.recipe,
        "title": recipes()[system.recipe].title,
        "report": runs[0].summary["report_accuracy"],
        "best": [round(accuracy, 6) for accuracy in best],
        "best_steps": [point["best_step"] for point in points],
        "prediction_interval": interval and [round(min(max(end, 0), 1), 6) for end in interval],
        "last_quarter": [round(_last_quarter(run), 6) for run in runs],
        "last": [round(point["last"], 6) for point in points],
        "seeds": [run.summary["seed"] for run in runs],
        "steps": runs[0].summary["steps"],
        "seconds": [round(run.summary["seconds"]["fit"], 1) for run in runs],
        "devices": sorted(hardware_of(runs)),
    }


def _last_quarter(run: Run) -> float:
    """Return the mean accuracy of the evaluations in the last quarter of the steps of a run."""
    steps, accuracies = run.curves.get("acc/test", ([], []))
    if not len(steps) or steps[-1] != run.summary["steps"]:
        raise UserError(f"{run.path}: metrics.csv lacks the last test accuracy; train it again")
    return last_quarter(list(steps), list(accuracies))


def write_reference(runs: Mapping[str, Sequence[Run]], folder: Path) -> None:
    """Write the scalars of runs as event files that TensorBoard shows, replacing older ones.

    The folder gets ``<recipe>/seed_<n>`` for each run, with evaluations as the dashboard has them.
    """
    for recipe, several in runs.items():
        for run in several:
            _write_events(run, folder / recipe / f"seed_{run.summary['seed']}")


def _write_events(run: Run, folder: Path) -> None:
    points: dict[int, dict[str, float]] = {}
    for tag in COLUMNS[1:]:
        for step, value in zip(*run.curves.get(tag, ((), ())), strict=True):
            points.setdefault(int(step), {})[tag] = float(value)
    parts: dict[str, list[tuple[str, float, int]]] = {}
    for step, scalars in sorted(points.items()):
        for part, found in by_run(scalars, step, max(points)).items():
            parts.setdefault(part, []).extend((tag, value, step) for tag, value in found.items())
    make_folder(folder.parent)
    for part in ("", *EVALUATIONS):
        _write_file(parts.get(part, ()), folder / part)


def _write_file(entries: Sequence[tuple[str, float, int]], folder: Path) -> None:
    """Write tags, values and steps into the one file of a folder, if there are any."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    if not entries:
        return
    make_folder(folder)
    writer = SummaryWriter(str(folder))
    for tag, value, step in entries:
        # TensorBoard needs some time; steps in its place say nothing about a machine.
        writer.add_scalar(tag, value, step, walltime=float(step))
    writer.close()
    (written,) = folder.glob("events.out.tfevents.*")
    written.rename(folder / "events.out.tfevents.0.reference")  # without the host's name
