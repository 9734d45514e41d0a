"""Progress: a bar on a terminal, lines elsewhere."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from cifar_lab.cli import main
from cifar_lab.dashboards import progress
from cifar_lab.dashboards.progress import ProgressBar, ProgressLines, make_progress
from cifar_lab.run.summary import clock


def test_auto_shows_a_bar_where_it_can_be_redrawn_and_none_nothing(monkeypatch) -> None:
    for terminal, name, kind in (
        (True, "xterm", ProgressBar),
        (True, "dumb", ProgressLines),
        (False, "xterm", ProgressLines),
    ):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setenv("TERM", name)
        assert type(make_progress("auto")) is kind
    notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    monkeypatch.setattr(sys, "stdout", notebook())
    assert type(make_progress("auto")) is ProgressBar
    assert make_progress("none") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The clock of the lines; its ``return_value`` is the time."""
    monkeypatch.setattr(progress.time, "perf_counter", clock := Mock(return_value=0.0))
    return clock


MODEL = SimpleNamespace(cost_of_steps=float)
METRICS = {"loss/train": 1.6, "acc/train": 0.5, "loss/val": 1.7, "acc/val": 0.25}
METRICS |= {"speed/images_per_second": 12345.6}


def _trainer(step: int, steps: int = 10) -> SimpleNamespace:
    given = {"estimated_stepping_batches": steps, "is_global_zero": True, "val_check_interval": 4}
    given |= {"accumulate_grad_batches": 1, "callback_metrics": METRICS}
    return SimpleNamespace(global_step=step, **given)


def test_the_line_of_an_evaluation(now, capsys) -> None:
    lines = ProgressLines()
    lines.on_train_start(_trainer(0), MODEL)
    for step in range(1, 5):
        now.return_value += 10.0
        lines.on_train_batch_end(_trainer(step))
    lines.on_validation_start(_trainer(4), MODEL)
    now.return_value += 5.0
    lines.on_validation_end(_trainer(4), MODEL)
    expected = "step  4 of 10  train 1.600 50.00 %  val 1.700 25.00 %  12,346 images/s"
    assert capsys.readouterr().out == f"{expected}  0:45 elapsed  1:10 left\n"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (120, "train 1.600 50.0 %  val 1.700 25.0 %  12,346 images/s  0:50 left"),
        (80, "5,000/5,010  train 1.600 50.0 %  val 1.700 25.0 %  12,346 images/s  0:50 left"),
        (62, "5,000/5,010  train 1.600 50.0 %  val 1.700 25.0 %  0:50 left"),
        (50, "5,000/5,010  train 1.600 50.0 %  0:50 left"),
        (24, "5,000/5,010  0:50 left"),
    ],
)
def test_the_bar_fits_the_terminal(columns, expected, now, capsys) -> None:
    bar = ProgressBar()
    bar.on_train_start(_trainer(4980, 5010), MODEL)
    bar._bar.dynamic_ncols = lambda file: (columns, 24)
    for step in (4990, 5000):
        now.return_value += 50.0
        bar._refreshed = 0.0
        bar.on_train_batch_end(_trainer(step, 5010))
    shown = capsys.readouterr().out.rpartition("\r")[2].rstrip()
    bar.on_train_end(_trainer(step))
    assert shown.endswith(expected)
    assert len(shown) < columns
    assert ("█" in shown or "#" in shown) == (columns == 120)


def test_a_line_comes_where_no_evaluation_does(now, monkeypatch, capsys) -> None:
    lines = ProgressLines()
    lines.on_train_start(_trainer(0), MODEL)
    told = []
    for step in range(1, 9):  # one in a hundred seconds
        trainer, now.return_value = _trainer(step), 100.0 * step
        if step == 4:
            lines.on_validation_start(trainer, MODEL)
            lines.on_validation_end(trainer, MODEL)
        lines.on_train_batch_end(trainer, None, None, None, step)
        told += [(step, "val " in line) for line in capsys.readouterr().out.splitlines()]
    assert told == [(3, False), (4, True), (7, False)]
    monkeypatch.setattr("builtins.print", Mock(side_effect=BrokenPipeError))
    now.return_value += 400
    lines.on_train_batch_end(trainer, None, None, None, 9)  # nothing is saved yet
    with pytest.raises(BrokenPipeError):
        lines.on_validation_end(trainer, MODEL)


def test_the_bar_stands_below_a_line_for_each_evaluation(tree: Path, capsys) -> None:
    words = ["--model", "mlp", "--hidden_units", "8", "--data_dir", str(tree), "--batch_size", "20"]
    words += ["--max_steps", "7", "--eval_every", "5", "--dashboard", "off", "--progress", "bar"]
    assert main(["fit", *words]) == 0
    told = capsys.readouterr().out
    shown = [line for part in told.split("\n") for line in part.split("\r")]
    assert any("5/7" in line and "evaluating" in line and "images/s" in line for line in shown)
    lines = [line.split("  ")[0] for line in shown if line.startswith("step ")]
    assert lines == ["step 5 of 7", "step 7 of 7"]
