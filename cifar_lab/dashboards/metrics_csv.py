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
            writer.writerows(rows)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))
