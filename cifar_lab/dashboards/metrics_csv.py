"""``metrics.csv``: the scalars of a run as a table, one row a step.

Lightning's CSVLogger deletes the file of a run that goes on, and rewrites it whole when a new
column comes; this one appends.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.atomic import write_atomically
from cifar_lab.errors import UserError
from cifar_lab.files import read_file, shown

FILE_LIMIT = 2**30  # bytes; a row takes about 100
COLUMNS = [
    "step",
    "epoch",
    "loss/train",
    "acc/train",
    "loss/val",
    "acc/val",
    "loss/test",
    "acc/test",
    "lr",
    "speed/images_per_second",
]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of such a file, by its columns; a last line that has no end is none.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        text = io.StringIO(read_file(path, FILE_LIMIT).decode("utf-8"), newline="")
        rows = list(csv.DictReader(line for line in text if line.endswith("\n")))
        for row in rows:
            _check_row(row)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        reason = f"{type(error).__name__}: {shown(error)}"
        raise UserError(
            f"{path}: not a table of numbers with a column 'step' ({reason})"
        ) from error
    return rows


def _check_row(row: dict[str, str]) -> None:
    """Refuses a row that is not of numbers.

    Raises:
        ValueError, KeyError, TypeError: it is so.
    """
    if not 0 <= int(row["step"]) < 2**63:
        raise ValueError("a step out of its range")
    for value in filter(None, row.values()):
        float(value)


class MetricsCSV(Logger):
    """A logger that appends to one CSV file.

    A row is written when the next step begins, at a checkpoint or at the end: training and
    evaluation at the same step share a row. For a metric without a column, and for a row that was
    written already, the file is written anew, beside its place: no row is lost on the way.

    Args:
        path: of the file; an existing one is continued.
        last_step: of a run that goes on; later rows, and one that a crash cut off, are removed.

    Raises:
        UserError: as of ``read_rows``.
    """

    def __init__(self, path: Path, last_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        rows = self._read()
        self._columns = list(rows[0]) if rows else list(COLUMNS)
        self._row: dict[str, Any] = {}
        if last_step is not None:
            rows = [row for row in rows if int(row["step"]) <= last_step]
            self._rewrite(rows)
        # The last row on disk.
        self._written: dict[str, Any] = {**rows[-1], "step": int(rows[-1]["step"])} if rows else {}

    @property
    def name(self) -> str:
        """The kind of logger."""
        return "csv"

    @property
    def version(self) -> str:
        """The name of the run's folder."""
        return self.path.parent.name

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """The file."""
        return self.path

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Writes nothing: config.yaml holds the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Adds scalars to the row of ``step``."""
        if self._row and self._row["step"] != step:
            self._flush()
        if not self._row and self._written.get("step") == step:
            self._row = dict(self._written)
        self._row.update(metrics, step=step)

    @rank_zero_only
    def save(self) -> None:
        """Writes the row, which may get more scalars, and makes all survive a power cut."""
        self._flush()
        if self.path.exists():
            with self.path.open("r+b") as file:  # Windows syncs no file that is only read
                os.fsync(file.fileno())

    def _flush(self) -> None:
        row, self._row = self._row, {}
        if not row or row == self._written:
            return
        added = [name for name in row if name not in self._columns]
        rewritten = row["step"] == self._written.get("step")
        if added or rewritten:
            self._columns += added
            rows = self._read()
            self._rewrite([*(rows[:-1] if rewritten else rows), row])
        else:
            self._append(row)
        self._written = row

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the last row."""
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
