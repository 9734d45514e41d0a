"""The table of the report: every system, the report's figure and ours, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from cifar_lab.data.image_set import describe
from cifar_lab.report.results import Results, mean_and_deviation

COLUMNS = (
    "#",
    "recipe",
    "system",
    "report, best point",
    "best point",
    "difference",
    "last point",
    "seeds",
    "time of a run",
    "hardware",
)


def markdown(results: Results) -> str:
    """The table, a line a system, and above it what the numbers are."""
    lines = [caption(results), "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    return "\n".join([*lines, *(line(cells(system)) for system in results["systems"])])


def caption(results: Results) -> str:
    """What the numbers are: protocol, data, versions."""
    data, versions = results["data"], results["versions"]
    images = describe(data["source"], data["location"] if data["source"] == "folder" else "")
    short = "SHORTENED recipes, for a look only. " if results["quick"] else ""
    return (
        f"{short}Test accuracy in %, mean ± standard deviation over the seeds, by the report's "
        f"protocol: trained on all {data['images']['train']:,} training images, the curve followed "
        "on the test set. The best point is picked on that curve, so it flatters. "
        f"Data: {images}, fingerprint {data['fingerprint']}. torch {versions['torch']}, "
        f"pytorch-lightning {versions['pytorch_lightning']}."
    )


def cells(system: dict[str, Any]) -> list[str]:
    """The cells of a system, in the order of ``COLUMNS``."""
    report = system["report"]
    difference = 100 * (statistics.fmean(system["best"]) - report) if report else None
    return [
        str(system["number"]),
        f"`{system['recipe']}`",
        system["title"],
        f"{100 * report:.2f}" if report else "–",
        mean_and_deviation(system["best"]),
        "–" if difference is None else f"{difference:+.2f}",
        mean_and_deviation(system["last"]),
        ", ".join(map(str, system["seeds"])),
        _time(system["seconds"]),
        "; ".join(system["devices"]),
    ]


def _time(seconds: list[float]) -> str:
    low, high = min(seconds), max(seconds)
    unit, divisor = ("s", 1) if high < 120 else ("min", 60)
    shown = {f"{value / divisor:.0f}" for value in (low, high)}
    return f"{'–'.join(sorted(shown, key=float))} {unit}"


def line(parts: Sequence[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(parts)} |"
