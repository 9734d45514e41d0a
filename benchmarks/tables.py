"""The sections of the benchmark as tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import Any

Section = dict[str, Any]


def lines(name: str, section: Section) -> list[str]:
    """Return the lines of a section: a title, then its table."""
    return list(TABLES[name](section))


def _training(section: Section) -> Iterator[str]:
    yield "Training, seconds a step (evaluations apart)    median      ratio to the plain loop"
    for recipe, found in section.items():
        label = f"{recipe}, {found['precision']}"
        yield from _timed_rows(label, found["seconds_a_step"], found["ratio_to_plain"])


def _batch_normalization(section: Section) -> Iterator[str]:
    yield "Batch normalization, forward and backward       median      ratio to PyTorch's own"
    for shape, found in section.items():
        yield from _timed_rows(shape, found["seconds"], found["ratio_to_native"])


def _timed_rows(label: str, seconds: Section, ratios: Section) -> Iterator[str]:
    for name, found in seconds.items():
        ratio = ratios.get(name)  # none for the base of the comparison
        compared = "   {median:.2f}  ({low:.2f}–{high:.2f})".format(**ratio) if ratio else ""
        yield _row(f"{label}: {name.replace('_', ' ')}", _time(found["median"]) + compared)


def _loader(section: Section) -> Iterator[str]:
    yield "The loader alone, batches of 128           images a second"
    for names, found in section.items():
        yield _row(names, f"{found['images_per_second']:>12,.0f}")


def _arithmetic(section: Section) -> Iterator[str]:
    yield "Arithmetic                                       GFLOP/s"
    for name, speed in section["best_gflop_per_second"].items():
        yield _row(f"best {name}", f"{speed:>12,.0f}")
    for recipe, found in section["models"].items():
        label = f"{recipe}, {found['gflop_a_step']:.2f} GFLOP a step"
        yield _row(label, f"{found['gflop_per_second']:>12,.0f}")


def _start_up(section: Section) -> Iterator[str]:
    yield "Start-up"
    yield _row("--help", _time(section["help_seconds"]))
    yield _row("a run of one step, from command to end", _time(section["one_step_seconds"]))
    yield _row("largest memory of that run", f"{section['peak_memory_mb']:>9,.0f} MB")


def _peer(section: Section) -> Iterator[str]:
    yield "fast_cnn and a published speed-run              seconds   accuracy   ratio of the times"
    for name, accuracies in section["accuracies"].items():
        ratio = section["ratio_to_peer"].get(name)
        compared = "   {median:.2f}  ({low:.2f}–{high:.2f})".format(**ratio) if ratio else ""
        accuracy = f"{100 * fmean(accuracies):>9.2f} %"
        yield _row(name, _time(median(section["seconds"][name])) + accuracy + compared)


def _drift(section: Section) -> Iterator[str]:
    yield "Losses against nn.BatchNorm's, relative           first      largest         last"
    for name, found in section.items():
        for form in ("manual", "composed"):
            differences = "{first:>11.0e}{largest:>13.0e}{last:>13.0e}".format(**found[form])
            yield _row(f"{name}, batches of {found['batch_size']}: {form}", differences)


def _row(label: str, cells: str) -> str:
    return f"  {label:<44}{cells}".rstrip()


def _time(seconds: float) -> str:
    """Return a time in a unit that suits it, in 12 columns."""
    if seconds >= 1e-3:
        text = f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"
    else:
        text = f"{seconds * 1e6:.0f} µs"
    return f"{text:>12}"


TABLES = {
    "training": _training,
    "batch_normalization": _batch_normalization,
    "loader": _loader,
    "arithmetic": _arithmetic,
    "start_up": _start_up,
    "peer": _peer,
    "drift": _drift,
}
