"""Progress: a bar on a terminal, lines elsewhere."""

import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from cifar_lab.cli import main
from cifar_lab.dashboards import progress
from cifar_lab.dashboards.progress import ProgressBar, ProgressLines, make_progress
from cifar_lab.run.summary import clock


def test_auto_shows_a_bar_on_a_terminal_only_and_none_nothing(monkeypatch) -> None:
    for terminal, kind in ((True, ProgressBar), (False, ProgressLines)):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal, raising=False)
        assert isinstance(make_progress("auto"), kind)
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


def _trainer(step: int) -> SimpleNamespace:
    metrics = {"loss/train": 0.5, "acc/train": 0.5, "loss/val": 0.5, "acc/val": 0.5}
    given = {"estimated_stepping_batches": 10, "is_global_zero": True, "callback_metrics": metrics}
    return SimpleNamespace(global_step=step, **given)


@pytest.mark.parametrize(("step", "left"), [(4, ""), (6, ", 0:20 left")])
def test_the_time_left_is_told_once_a_step_was_timed(step: int, left: str, now, capsys) -> None:
    lines = ProgressLines()
    lines.on_train_start(_trainer(4), None)
    now.return_value = 10.0
    lines.on_validation_end(_trainer(step), None)
    assert capsys.readouterr().out.endswith(f"0:10 elapsed{left}\n")


def test_a_line_comes_where_no_evaluation_does(now, monkeypatch, capsys) -> None:
    lines = ProgressLines()
    lines.on_train_start(_trainer(0), None)
    told = []
    for step in range(1, 9):  # one in a hundred seconds
        trainer, now.return_value = _trainer(step), 100.0 * step
        if step == 4:
            lines.on_validation_end(trainer, None)
        lines.on_train_batch_end(trainer, None, None, None, step)
        told += [(step, "val " in line) for line in capsys.readouterr().out.splitlines()]
    assert told == [(3, False), (4, True), (7, False)]
    monkeypatch.setattr("builtins.print", Mock(side_effect=BrokenPipeError))
    now.return_value += 400
    lines.on_train_batch_end(trainer, None, None, None, 9)  # nothing is saved yet
    with pytest.raises(BrokenPipeError):
        lines.on_validation_end(trainer, None)


def test_the_bar_shows_steps_and_numbers_in_place_of_lines(tree: Path, capsys) -> None:
    words = ["--model", "mlp", "--hidden_units", "8", "--data_dir", str(tree), "--batch_size", "20"]
    words += ["--max_steps", "7", "--eval_every", "5", "--dashboard", "off", "--progress", "bar"]
    assert main(["fit", *words]) == 0
    told = capsys.readouterr().out
    shown = [line for part in told.split("\n") for line in part.split("\r")]
    assert any("7/7" in line and "val " in line and "images/s" in line for line in shown)
    assert any("evaluating" in line for line in shown)
    assert not any(line.startswith("step ") for line in shown)
