"""One row for each run of a log folder: its settings, its progress and its accuracy."""

from typing import Any

from cifar_lab.errors import UserError
from cifar_lab.plan import decisive
from cifar_lab.run.run import Run
from cifar_lab.run.summary import accuracy_on_test

COLUMNS = ("run", "model", "settings", "seed", "steps", "val", "test", "seconds", "state")


def overview(run: Run) -> dict[str, Any]:
    """Return the row of a run in plain values, by ``COLUMNS``.

    Accuracies are fractions: of the best evaluation so far (``val``) and on the test set
    (``test``). Unknown values are None; the state names a damaged file.
    """
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["run"] = f"{run.folder.name}/{run.folder.version}"
    try:
        row |= {"model": run.config.get("model"), "seed": run.config.get("seed")}
        row["settings"] = _changes(run)
        row |= _finished(run) if run.finished else _unfinished(run)
    except UserError as error:
        row["state"] = f"damaged: {error}"
    return row


def _changes(run: Run) -> dict[str, Any]:
    """Return the settings that decide the numbers and differ from the recipe, without the seed."""
    try:
        changes = run.plan.changes()
    except UserError:  # a model of the user's own, which is not imported because a file names it
        return {}
    return {
        name: v for name, v in changes.items() if name in decisive({name: v}) and name != "seed"
    }


def _finished(run: Run) -> dict[str, Any]:
    found = run.summary
    return {
        "steps": found["steps"],
        "val": found["accuracy"].get("val", {}).get("best"),
        "test": accuracy_on_test(found["accuracy"]),
        "seconds": found["seconds"].get("total"),
        "state": "finished",
    }


def _unfinished(run: Run) -> dict[str, Any]:
    curves = run.curves if run.folder.metrics.is_file() else {}
    steps = [int(found[0][-1]) for found in curves.values() if len(found[0])]
    accuracies = curves["acc/val"][1] if "acc/val" in curves else ()
    return {
        "steps": max(steps, default=0),
        "val": float(max(accuracies)) if len(accuracies) else None,
        "state": "running" if run.folder.is_locked else "stopped",
    }
