"""The sections of the benchmark as lines for people."""

from __future__ import annotations

from typing import Any

Section = dict[str, Any]


def lines(name: str, section: Section) -> list[str]:
    """The lines of a section: a title, then its table."""
    return _TABLES[name](section)


def _training(section: Section) -> list[str]:
    rows = ["Training, seconds a step (evaluations apart)    median      ratio to the plain loop"]
    for recipe, found in section.items():
        for name, seconds in found["seconds_a_step"].items():
            shown = _ratio(found["ratio_to_plain"].get(name))
            label = f"{recipe}, {found['precision']}: {name.replace('_', ' ')}"
            rows.append(f"  {label:<44}{_time(seconds['median']):>12}   {shown}")
    return rows


def _batch_normalization(section: Section) -> list[str]:
    rows = ["Batch normalization, forward and backward       median      ratio to PyTorch's own"]
    for shape, found in section.items():
        for kind, seconds in found["seconds"].items():
            shown = _ratio(found["ratio_to_native"].get(kind))
            rows.append(f"  {f'{shape}: {kind}':<44}{_time(seconds['median']):>12}   {shown}")
    return rows


def _loader(section: Section) -> list[str]:
    rows = ["The loader alone, batches of 128           images a second"]
    for names, found in section.items():
        rows.append(f"  {names:<44}{found['images_per_second']:>12,.0f}")
    return rows


def _arithmetic(section: Section) -> list[str]:
    rows = ["Arithmetic                                       GFLOP/s"]
    for name, speed in section["best_gflop_per_second"].items():
        rows.append(f"  {'best ' + name:<44}{speed:>12,.0f}")
    for recipe, found in section["models"].items():
        label = f"{recipe}, {found['gflop_a_step']:.2f} GFLOP a step"
        rows.append(f"  {label:<44}{found['gflop_per_second']:>12,.0f}")
    return rows


def _start_up(section: Section) -> list[str]:
    return [
        "Start-up",
        f"  {'--help':<44}{_time(section['help_seconds']):>12}",
        f"  {'a run of one step, from the command to its end':<46}"
        f"{_time(section['one_step_seconds']):>10}",
        f"  {'largest memory of that run':<44}{section['peak_memory_mb']:>9,.0f} MB",
    ]


def _drift(section: Section) -> list[str]:
    rows = ["Losses against nn.BatchNorm's, relative           first      largest         last"]
    for name, found in section.items():
        for form in ("manual", "composed"):
            label = f"{name}, batches of {found['batch_size']}: {form}"
            numbers = "".join(f"{found[form][key]:>13.0e}" for key in ("first", "largest", "last"))
            rows.append(f"  {label:<42}{numbers}")
    return rows


def _ratio(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['median']:.2f}  ({found['low']:.2f}–{found['high']:.2f})"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


_TABLES = {
    "training": _training,
    "batch_normalization": _batch_normalization,
    "loader": _loader,
    "arithmetic": _arithmetic,
    "start_up": _start_up,
    "drift": _drift,
}
