"""``cifar-lab runs``: the runs of a log folder, as a table, as CSV or as JSON."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cifar_lab.cli.parser import Command
from cifar_lab.errors import UserError
from cifar_lab.settings import Setting, as_text, setting

Row = dict[str, Any]
Column = Literal["run", "model", "seed", "steps", "val", "test", "seconds", "state"]


@dataclass(frozen=True)
class _Options:
    sort: Column = setting("run", "column to sort by; the best accuracies come first")
    where: list[str] = setting(
        [], "only runs with these settings or columns, such as model=mlp,lr=0.01,state=finished"
    )
    csv: bool = setting(False, "print CSV")
    json: bool = setting(False, "print JSON")


COMMAND = Command(
    "runs",
    "Lists the runs of a folder: model, settings that differ from the recipe, seed, steps, best\n"
    "accuracy on the validation split, test accuracy, time and state: finished, running (a\n"
    "process trains it) or stopped.\n\n"
    "Exit status: 0 done, 2 wrong input.",
    _Options,
    positionals=(
        Setting("folder", Path, Path("lightning_logs"), "folder of the runs", "arguments"),
    ),
    example="--sort test --where model=mlp",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from cifar_lab.run.overview import COLUMNS, overview
    from cifar_lab.run.run import runs

    if options.csv and options.json:
        raise UserError("--csv and --json: give one of them")
    if not options.folder.is_dir():
        raise UserError(f"{options.folder}: no such folder")
    found = [(run, overview(run)) for run in runs(options.folder)]
    rows = [row for run, row in found if _is_wanted(row, options.where, run)]
    if found and not rows:
        _check_names(options.where, [run for run, _ in found])
    rows = _sorted(rows, options.sort)
    if options.json:
        print(json.dumps(rows))
    elif options.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "settings": _settings(row)} for row in rows)
    else:
        print(_table(rows) if rows else f"no runs in {options.folder}")
    return 0


def _is_wanted(row: Row, conditions: Sequence[str], run: Any) -> bool:
    for condition in conditions:
        name, equals, wanted = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: expected NAME=VALUE")
        values = {**run.config, **{name: row[name] for name in ("run", "state")}}
        if name not in values:
            return False
        if str(values[name]) != wanted and not _same_number(values[name], wanted):
            return False
    return True


def _check_names(conditions: Sequence[str], runs: Sequence[Any]) -> None:
    """Raise a UserError if no run has a setting that a condition names."""
    known = {"run", "state"}.union(*(run.config for run in runs))
    for name in (condition.partition("=")[0] for condition in conditions):
        if name not in known:
            raise UserError(f"--where {name}: no run has such a setting")


def _same_number(value: Any, text: str) -> bool:
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return False


def _sorted(rows: list[Row], column: str) -> list[Row]:
    """Return rows in ascending order, best accuracies first, and those without a value last."""
    if column == "run":
        return rows
    there = [row for row in rows if row[column] is not None]
    there.sort(key=lambda row: row[column], reverse=column in ("val", "test"))
    return there + [row for row in rows if row[column] is None]


def _settings(row: Row) -> str:
    named = (row["settings"] or {}).items()
    return " ".join(f"{name}={as_text(value)}" for name, value in named)


def _table(rows: Sequence[Row]) -> str:
    from cifar_lab.run.summary import clock

    headings = ["run", "seed", "steps", "val %", "test %", "time", "state", "settings"]
    lines = [headings]
    for row in rows:
        percent = ["" if row[n] is None else f"{100 * row[n]:.2f}" for n in ("val", "test")]
        time = "" if row["seconds"] is None else clock(row["seconds"])
        steps = "" if row["steps"] is None else f"{row['steps']:,}"
        seed = "" if row["seed"] is None else str(row["seed"])
        lines.append([row["run"], seed, steps, *percent, time, row["state"], _settings(row)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(_padded(line, widths)).rstrip() for line in lines)


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the cells of a line at their widths, numbers to the right."""
    numbers = range(1, 6)
    pairs = enumerate(zip(line, widths, strict=True))
    return [cell.rjust(w) if place in numbers else cell.ljust(w) for place, (cell, w) in pairs]
