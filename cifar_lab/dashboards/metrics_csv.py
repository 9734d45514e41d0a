"""``metrics.csv``: the scalars of a run as a table, one row a step.

Lightning's CSVLogger deletes the file of a run that goes on, and rewrites it whole when a new
column comes; this one appends.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

COLUMNS = [
    "step",
    "loss/train",
    "acc/train",
    "loss/val",
    "acc/val",
    "loss/test",
    "acc/test",
    "lr",
    "speed/images_per_second",
]


class MetricsCSV(Logger):
    """A logger that appends to one CSV file.

    A row is written when the next step begins, or at the end: training and evaluation at the same
    step share a row. A metric without a column gets one, and the file is written anew.

    Args:
        path: of the file; an existing one is continued.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        rows = self._read()
        self._columns = list(rows[0]) if rows else list(COLUMNS)
        self._row: dict[str, Any] = {}
        self._written: dict[str, Any] = {}  # the last row on disk
        self._offset = 0  # where it begins

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
            self._take_back()
        self._row.update(metrics, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the last row."""
        if self._row:
            self._flush()

    def _flush(self) -> None:
        row, self._row = self._row, {}
        rows = [row]
        if added := [name for name in row if name not in self._columns]:
            rows = [*self._read(), row]
            self._columns += added
            self.path.unlink(missing_ok=True)
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows[:-1])
            self._offset = file.tell()
            writer.writerow(row)
        self._written = row

    def _take_back(self) -> None:
        """Reopens the last row: a test at the end of training belongs to its last step."""
        self._row, self._written = self._written, {}
        with self.path.open("r+b") as file:
            file.truncate(self._offset)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))
