"""``metrics.csv``: the scalars of a run as a table with one row for each step.

Lightning's CSVLogger deletes the file of a resumed run, and rewrites all of it for a new column;
this logger appends.
"""

import csv
import io
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.errors import UserError
from cifar_lab.files import explained, read_file, shown, write_atomically

FILE_LIMIT = 2**30  # bytes; a row takes about 100
COLUMNS = ["step", "epoch", "loss/train", "acc/train", "loss/val", "acc/val"]
COLUMNS += ["loss/test", "acc/test", "lr", "speed/images_per_second"]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of such a file as dictionaries, without an incomplete last line."""
    with explained(f"{path}: cannot be read"):
        content = read_file(path, FILE_LIMIT)
    try:
        text = io.StringIO(content.decode("utf-8"), newline="")
        rows = list(csv.DictReader(line for line in text if line.endswith("\n")))
        for row in rows:
            _check_row(row)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        reason = f"{type(error).__name__}: {shown(error)}"
        what = "not a table of numbers with a column 'step'"
        raise UserError(f"{path}: {what} ({reason})") from error
    return rows


def _check_row(row: dict[str, str]) -> None:
    if not 0 <= int(row["step"]) < 2**63:
        raise ValueError("a step out of its range")
    for value in filter(None, row.values()):
        float(value)


class MetricsCSV(Logger):
    """A logger that appends to one CSV file.

    A row is written when the next step begins, at a checkpoint, or at the end: training and
    evaluation at the same step share a row. For a metric without a column, and for a row that was
    written already, the file is rewritten atomically, so that no row is lost.

    Args:
        path: path of the file; an existing one is continued.
        rows: rows to keep when a run is resumed, without those of later steps and one that a crash
            cut off.
    """

    def __init__(self, path: Path, rows: list[dict[str, Any]] | None = None) -> None:
        super().__init__()
        self.path = path
        there = self._read() if rows is None else rows
        self._columns = list(there[0]) if there else list(COLUMNS)
        self._row: dict[str, Any] = {}
        self._last_step = int(there[-1]["step"]) if there else -1  # on disk
        if rows is not None or os.path.lexists(path):  # what is appended to is a file of ours
            self._rewrite(there)

    @property
    def name(self) -> str:
        """The type of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """The name of the run's folder."""
        return self.path.parent.name

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml holds the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add scalars to the row of ``step``."""
        if self._row and self._row["step"] != step:
            self._flush()
        if not self._row and (step or 0) <= self._last_step:
            there = [row for row in self._read() if int(row["step"]) == step]
            self._row = there[-1] if there else {}
        self._row.update(metrics, step=step)

    @rank_zero_only
    def save(self) -> None:
        """Write the row so that it survives a power cut; more scalars may be added to it later."""
        self._flush()
        if self.path.exists():
            with self.path.open("r+b") as file:  # Windows syncs no file that is only read
                os.fsync(file.fileno())

    def _flush(self) -> None:
        row, self._row = self._row, {}
        if not row:
            return
        added = [name for name in row if name not in self._columns]
        if added or row["step"] <= self._last_step:
            self._columns += added
            others = [other for other in self._read() if int(other["step"]) != row["step"]]
            self._rewrite(sorted([*others, row], key=lambda row: int(row["step"])))
        else:
            self._append(row)
        self._last_step = max(self._last_step, row["step"])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last row."""
        self.save()

    def _append(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, content.getvalue().encode("utf-8"))

    def _read(self) -> list[dict[str, Any]]:
        return list(read_rows(self.path)) if self.path.exists() else []
