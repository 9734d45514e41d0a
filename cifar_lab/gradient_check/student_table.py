"""The table of a student's classes, 80 columns wide, and below it what is wrong with each."""

import textwrap
from collections import Counter
from pathlib import Path

from cifar_lab.gradient_check.diagnosis import LIMIT
from cifar_lab.gradient_check.student_check import AFTER, FOLLOWS, UNKNOWN, Row

WIDTH = 79
COLUMNS = "{:<31}{:<9}{:>9}{:>13}  {}"
LEGEND = {
    FOLLOWS: "the gradient of the forward pass that is there, which is wrong.",
    AFTER: "not to be judged before the forward pass is right.",
    UNKNOWN: "the backward pass does not come to its end.",
}
WHAT = {"output": "forward pass", "input": "input", "–": "check"}


def table(found: dict[str, list[Row]], path: Path) -> str:
    """Return the table of the rows of each class in a file, and the explanations."""
    head = f"{path.name}: largest relative errors; allowed against autograd: {LIMIT:g}"
    lines = [head, "", COLUMNS.format("class", "gradient", "autograd", "differences", "verdict")]
    explained: dict[tuple[str, ...], list[str]] = {}  # the rows that the same is said of
    for name, rows in found.items():
        for row in rows:
            errors = _shown(row.error), _shown(row.slope_error)
            lines.append(COLUMNS.format(name, row.name, *errors, row.verdict))
            if row.notes:
                explained.setdefault(tuple(row.notes), []).append(_title(name, row, path))
    for notes, titles in explained.items():
        lines += ["", *titles, *(part for note in notes for part in _wrapped(note))]
    verdicts = Counter(row.verdict for rows in found.values() for row in rows)
    lines += [""] * bool(LEGEND.keys() & verdicts.keys())
    lines += [f'"{verdict}": {text}' for verdict, text in LEGEND.items() if verdict in verdicts]
    total = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    return "\n".join([*lines, "", f"{verdicts.total()} rows: {total}."])


def _title(name: str, row: Row, path: Path) -> str:
    """Return a row in words, with the place of its method in the file."""
    what = WHAT.get(row.name, f"gradient of {row.name}")
    place = f" ({path.name}:{row.line})" if row.line else ""
    return f"{name}, {what}{place}: {row.verdict}"


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _shown(error: float | None) -> str:
    return "–" if error is None else f"{error:.0e}"
