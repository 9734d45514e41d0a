"""The time that pictures may take: a share of what passed."""

import time

import pytest

from cifar_lab.dashboards.budget import FIRST_GUESS, SHARE, Budget


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that is put forward by hand."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def test_the_first_drawing_waits_until_its_likely_time_is_within_the_share(clock) -> None:
    budget = Budget()
    budget.begin()
    clock(0.99 * FIRST_GUESS / SHARE)
    assert not budget.allows_drawing()
    clock(0.02 * FIRST_GUESS / SHARE)
    assert budget.allows_drawing()


def test_later_drawings_are_expected_to_take_as_long_as_the_dearest(clock) -> None:
    budget = Budget()
    with budget.spending(drawing=True):
        clock(3.0)
    with budget.spending():
        clock(1.0)
    assert budget.seconds == 4.0
    budget.begin()
    clock(6.9 / SHARE)
    assert not budget.allows_drawing()  # 4 were spent, 3 more would be
    clock(0.2 / SHARE)
    assert budget.allows_drawing()


def test_pictures_may_take_two_percent() -> None:
    assert SHARE == 0.02  # README
