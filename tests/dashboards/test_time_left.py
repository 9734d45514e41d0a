"""The time that is left, by a clock that the test sets."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from cifar_lab.dashboards import time_left
from cifar_lab.dashboards.time_left import TimeLeft
from cifar_lab.models.fast_cnn import FastCNN


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The clock; its ``return_value`` is the time in seconds."""
    monkeypatch.setattr(time_left.time, "perf_counter", clock := Mock(return_value=0.0))
    return clock


def _train(left: TimeLeft, clock: Mock, steps: range, seconds: float) -> None:
    for step in steps:
        clock.return_value += seconds
        left.count_step(step)


def test_nothing_is_promised_before_a_step_was_timed(clock: Mock) -> None:
    left = TimeLeft(float, 10, 5)
    left.begin_evaluation()  # a resumed run may begin with one
    clock.return_value = 3.0
    left.end_evaluation()
    assert left.seconds(5) is None
    _train(left, clock, range(6, 7), 100.0)  # the first step is compiled
    assert left.seconds(6) is None
    _train(left, clock, range(7, 8), 2.0)
    assert left.seconds(7) == 3 * 2.0 + 3.0


def test_evaluations_count_the_one_after_the_last_step_too(clock: Mock) -> None:
    left = TimeLeft(float, 12, 5)
    _train(left, clock, range(1, 6), 1.0)
    assert left.seconds(5) == 7.0
    left.begin_evaluation()
    clock.return_value += 4.0
    left.end_evaluation()
    assert left.seconds(5) == 7.0 + 2 * 4.0  # after steps 10 and 12
    _train(left, clock, range(6, 12), 1.0)
    assert left.seconds(11) == 1.0 + 4.0
    assert left.seconds(12) == 0.0


def test_the_long_steps_of_fast_cnn_are_known_before_they_come(clock: Mock) -> None:
    model = FastCNN(widths=(4,), small_size=16, small_share=0.5)
    model._trainer = SimpleNamespace(estimated_stepping_batches=100)
    assert model.cost_of_steps(100) - model.cost_of_steps(99) == 1.0
    left = TimeLeft(model.cost_of_steps, 100, 1000)
    _train(left, clock, range(1, 41), 1.0)
    assert left.seconds(40) == pytest.approx(10 * 1.0 + 50 * 4.0)  # four times the pixels
    _train(left, clock, range(41, 51), 1.0)
    _train(left, clock, range(51, 76), 4.0)
    assert left.seconds(75) == pytest.approx(25 * 4.0)
