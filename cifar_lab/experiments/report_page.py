"""The pages of the report, in Markdown and as one HTML file: its table and its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_lab.data.image_set import describe
from cifar_lab.errors import UserError
from cifar_lab.experiments.page import html_page
from cifar_lab.experiments.report import SYSTEMS, Results
from cifar_lab.experiments.tables import (
    markdown_table,
    mean_and_deviation,
    seed_range,
    time_range,
)
from cifar_lab.files import write_atomically
from cifar_lab.recipes import recipes
from cifar_lab.run.curves import common_curve
from cifar_lab.run.plot import (
    NAMES,
    SPLITS,
    VERMILION,
    log_if_peaked,
    plot_band,
    save_figure,
    style,
)
from cifar_lab.run.run import Run

TITLE = "From an MLP in NumPy to a CNN: the report's systems on CIFAR-10"


def markdown(results: Results) -> str:
    """Return what the numbers are, the table, and a sentence for each system."""
    table = markdown_table([_cells(system) for system in results["systems"]])
    sentences = "\n".join(f"- {verdict(system)}" for system in results["systems"])
    return f"{_caption(results)}\n\n{table}\n\n{sentences}"


def _caption(results: Results) -> str:
    data, versions = results["data"], results["versions"]
    images = describe(data["source"], data["location"] if data["source"] == "folder" else "")
    short = "SHORTENED recipes, for a look only. " if results["quick"] else ""
    return (
        f"{short}Test accuracy in %, mean ± standard deviation over the seeds, by the report's "
        f"protocol: trained on all {data['images']['train']:,} training images, the curve followed "
        "on the test set. The best point is picked on that curve, so it flatters, and the more so "
        "the more often a run is evaluated. The best point of one more run falls into the "
        "prediction interval with a probability of 95 % (mean ± t · s · √(1 + 1/n), Student). "
        f"Data: {images}, fingerprint {data['fingerprint']}. torch {versions['torch']}, "
        f"pytorch-lightning {versions['pytorch_lightning']}."
    )


def _cells(system: dict[str, Any]) -> dict[str, str]:
    report = system["report"]
    return {
        "#": str(system["number"]),
        "recipe": f"`{system['recipe']}`",
        "system": system["title"],
        "report, best point": f"{100 * report:.2f}" if report else "–",
        "prediction interval": interval_text(system),
        "best point": mean_and_deviation(system["best"]),
        "last quarter": mean_and_deviation(system["last_quarter"]),
        "last point": mean_and_deviation(system["last"]),
        "seeds": seed_range(system["seeds"]),
        "time of a run": time_range(system["seconds"]),
        "hardware": "; ".join(system["devices"]),
    }


def interval_text(system: Mapping[str, Any]) -> str:
    """Return the prediction interval of the best point in percent, or a dash."""
    ends = system["prediction_interval"]
    return f"{100 * ends[0]:.2f}–{100 * ends[1]:.2f}" if ends else "–"


def verdict(system: Mapping[str, Any]) -> str:
    """Return a sentence that says what the runs of a system show about the report's figure."""
    name, report, ends = f"`{system['recipe']}`", system["report"], system["prediction_interval"]
    if report is None:
        return f"{name}: the report has no figure to compare with."
    figure = f"the report's {100 * report:.2f} %"
    if ends is None:
        return f"{name}: one run gives no interval to compare {figure} with."
    low, high = ends
    if low <= report <= high:
        return f"{name}: {figure} lies inside the interval, so no difference is shown."
    beyond, side = (low - report, "below") if report < low else (report - high, "above")
    return f"{name}: {figure} lies {100 * beyond:.2f} points {side} the interval."


def write_pages(
    results: Results, figures: Sequence[Path], folder: Path, command: str
) -> list[Path]:
    """Write ``report.md`` and ``report.html``; return their paths.

    The figures are PNG files in the folder, each with an SVG beside it.
    """
    pictures = [f"![{path.stem.replace('_', ' ')}]({path.name})" for path in figures]
    parts = [f"# {TITLE}", markdown(results), *pictures, f"Written by `{command}`.", ""]
    pages = {
        folder / "report.md": "\n\n".join(parts),
        folder / "report.html": html_page(
            TITLE,
            _caption(results),
            [_cells(system) for system in results["systems"]],
            [path.with_suffix(".svg") for path in figures],
            command,
            [verdict(system) for system in results["systems"]],
        ),
    }
    for path, text in pages.items():
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    return list(pages)


def draw_figures(runs: Mapping[str, Sequence[Run]], folder: Path) -> list[Path]:
    """Draw the two figures of each system that has some, as PNG and SVG; return the PNG files."""
    files = []
    for system in SYSTEMS:
        if system.figures is None or system.recipe not in runs:
            continue
        title = recipes()[system.recipe].title
        for number, name in zip(system.figures, ("acc", "loss"), strict=True):
            figure = _draw(runs[system.recipe], name, f"Figure {number}: {title}")
            for suffix in (".svg", ".png"):
                path = folder / f"figure_{number}{suffix}"
                save_figure(figure, path, salt=f"figure {number}")
            files.append(path)
    return files


def _draw(runs: Sequence[Run], name: str, title: str) -> Figure:
    """Return a figure of the curves "acc" or "loss", with the report's best accuracy."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for split in ("train", "test"):
        _add_curve(axes, runs, f"{name}/{split}", SPLITS[split], NAMES[split])
    if name == "loss":
        style(axes, "optimizer steps", "cross entropy (nats)", f"{title}, loss")
        log_if_peaked(axes)
    else:
        style(axes, "optimizer steps", "accuracy (%)", f"{title}, accuracy")
        report = runs[0].summary["report_accuracy"]
        if report is not None:
            label = f"report's best point, {100 * report:.2f} %"
            axes.axhline(100 * report, color=VERMILION, linestyle="--", linewidth=1, label=label)
    axes.legend(loc="upper right" if name == "loss" else "lower right", frameon=False)
    return figure


def _add_curve(axes: Axes, runs: Sequence[Run], tag: str, colour: str, label: str) -> None:
    """Draw the mean over the seeds and their range, at the steps that all runs have."""
    steps, values = common_curve(runs, tag)
    if not steps:
        raise UserError(f"{runs[0].path}: no {tag} in metrics.csv, or none that all runs have")
    factor = 100 if tag.startswith("acc") else 1
    seeds = f", mean and range of {len(runs)} seeds" if len(runs) > 1 else ""
    plot_band(axes, steps, factor * values, colour, label=label + seeds)
