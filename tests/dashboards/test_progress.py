"""Progress: a bar on a terminal, lines elsewhere."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifar_lab.cli import main
from cifar_lab.dashboards import progress
from cifar_lab.dashboards.progress import ProgressBar, ProgressLines, make_progress
from cifar_lab.run.summary import clock


@pytest.mark.parametrize(("terminal", "kind"), [(True, ProgressBar), (False, ProgressLines)])
def test_auto_shows_a_bar_on_a_terminal_only(
    terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert isinstance(make_progress("auto"), kind)


def test_none_shows_nothing() -> None:
    assert make_progress("none") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("step", "left"), [(4, ""), (6, ", 0:20 left")])
def test_the_time_left_is_told_once_a_step_was_timed(step: int, left: str, capsys) -> None:
    trainer = SimpleNamespace(global_step=4, estimated_stepping_batches=10)
    trainer.is_global_zero, trainer.callback_metrics = True, {}
    lines = ProgressLines()
    lines.on_train_start(trainer, None)
    trainer.global_step = step
    lines._start -= 10
    lines.on_validation_end(trainer, None)
    assert capsys.readouterr().out.endswith(f"0:10 elapsed{left}\n")


def test_a_line_comes_where_no_evaluation_does(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    clock_now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock_now[0])
    trainer = SimpleNamespace(global_step=0, estimated_stepping_batches=10)
    trainer.is_global_zero = True
    splits = ("train", "val")
    trainer.callback_metrics = {f"{kind}/{s}": 0.5 for kind in ("loss", "acc") for s in splits}
    lines = ProgressLines()
    lines.on_train_start(trainer, None)
    told = []
    for step in range(1, 9):  # one in a hundred seconds
        trainer.global_step, clock_now[0] = step, 100.0 * step
        if step == 4:
            lines.on_validation_end(trainer, None)
        lines.on_train_batch_end(trainer, None, None, None, step)
        told += [(step, "val " in line) for line in capsys.readouterr().out.splitlines()]
    assert told == [(3, False), (4, True), (7, False)]

    def closed(*given: object, **how: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    clock_now[0] += 400
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
