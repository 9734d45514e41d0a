"""metrics.csv: a row for each step, continued and never lost."""

import csv
import os
from pathlib import Path

from cifar_lab.run.metrics import COLUMNS, MetricsCSV


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_and_evaluation_of_a_step_share_a_row() -> None:
    logger = MetricsCSV(Path("metrics.csv"))
    logger.log_metrics({"loss/train": 2.0}, step=1)
    logger.log_metrics({"loss/train": 1.0}, step=100)
    assert [row["step"] for row in _rows(Path("metrics.csv"))] == ["1"]  # when the next begins
    logger.log_metrics({"acc/val": 0.5}, step=100)
    logger.finalize("success")
    rows = _rows(Path("metrics.csv"))
    assert list(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["1", "100"]
    assert (rows[1]["loss/train"], rows[1]["acc/val"]) == ("1.0", "0.5")


def test_an_existing_file_is_continued_without_a_second_header() -> None:
    for step in (1, 2):
        logger = MetricsCSV(Path("metrics.csv"))
        logger.log_metrics({"loss/train": 2.0}, step=step)
        logger.finalize("success")
    logger.log_metrics({"acc/test": 0.5}, step=2)  # a test after the end of training
    logger.finalize("success")
    rows = _rows(Path("metrics.csv"))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert (rows[1]["loss/train"], rows[1]["acc/test"]) == ("2.0", "0.5")


def test_a_metric_of_an_earlier_step_joins_its_row() -> None:
    logger = MetricsCSV(Path("metrics.csv"))
    for step in (1, 2):
        logger.log_metrics({"acc/val": step / 10}, step=step)
    logger.log_metrics({"acc/test": 0.5}, step=1)  # of the best checkpoint
    logger.log_metrics({"acc/val": 0.3}, step=3)
    logger.finalize("success")
    rows = [(row["step"], row["acc/val"], row["acc/test"]) for row in _rows(Path("metrics.csv"))]
    assert rows == [("1", "0.1", "0.5"), ("2", "0.2", ""), ("3", "0.3", "")]


def test_a_new_metric_gets_a_column_and_keeps_the_rows() -> None:
    logger = MetricsCSV(Path("metrics.csv"))
    logger.log_metrics({"loss/train": 2.0}, step=1)
    logger.log_metrics({"grad_norm": 7.0}, step=2)
    logger.finalize("success")
    rows = _rows(Path("metrics.csv"))
    assert list(rows[0]) == [*COLUMNS, "grad_norm"]
    assert (rows[0]["loss/train"], rows[1]["grad_norm"]) == ("2.0", "7.0")


def test_a_file_is_synced_through_a_descriptor_that_may_write(monkeypatch) -> None:
    # Windows refuses others.
    written = []
    monkeypatch.setattr("os.fsync", lambda number: written.append(os.write(number, b"")))
    logger = MetricsCSV(Path("metrics.csv"))
    logger.log_metrics({"loss/train": 2.0}, step=1)
    logger.save()
    logger.save()
    assert written
