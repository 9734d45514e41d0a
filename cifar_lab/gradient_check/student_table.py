"""The table of a student's classes, 80 columns wide, followed by the mistakes in each."""

import textwrap
from collections import Counter
from pathlib import Path

from cifar_lab.gradient_check.diagnosis import LIMIT
from cifar_lab.gradient_check.student_check import NOT_JUDGED, Row

COLUMNS = "{:<31}{:<9}{:>9}{:>13}  {}"
LEGEND = f'"{NOT_JUDGED}": this may follow from a mistake above; correct that one first.'
WHAT = {"output": "forward pass", "x": "gradient of the input x", "check": "check"}


def table(found: dict[str, list[Row]], path: Path) -> str:
    """Return the table of the rows of each class in a file, and the explanations."""
    head = f"{path.name}: largest relative errors; allowed against autograd: {LIMIT:g}"
    lines = [head, "", COLUMNS.format("class", "gradient", "autograd", "differences", "verdict")]
    titles: dict[tuple[str, ...], list[str]] = {}  # of the rows with the same notes
    for name, rows in found.items():
        for row in rows:
            errors = _shown(row.error), _shown(row.slope_error)
            lines.append(COLUMNS.format(name, row.name, *errors, row.verdict))
            what = WHAT.get(row.name, f"gradient of {row.name}")
            place = f" ({path.name}:{row.line})" if row.line else ""
            title = f"{name}, {what}{place}: {row.verdict}"
            titles.setdefault(tuple(row.notes), []).append(title)
    titles.pop((), None)
    for notes, rows_with_them in titles.items():
        lines += ["", *rows_with_them, *map(_wrapped, notes)]
    verdicts = Counter(row.verdict for rows in found.values() for row in rows)
    lines += ["", LEGEND] if NOT_JUDGED in verdicts else []
    total = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    rows_in_all = f"{verdicts.total()} row" + "s" * (verdicts.total() != 1)
    return "\n".join([*lines, "", f"{rows_in_all}: {total}."])


def _wrapped(note: str) -> str:
    return textwrap.fill(note, 79, initial_indent="  ", subsequent_indent="    ")


def _shown(error: float | None) -> str:
    return "–" if error is None else f"{error:.0e}"
