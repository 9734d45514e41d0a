"""The time that pictures may take: a share of the time of the run, once a quarter."""

import time

import pytest

from cifar_lab.dashboards.tensorboard import FIRST_GUESS, SHARE, Budget


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock that is put forward by hand."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def test_the_first_pictures_wait_until_their_likely_time_is_two_percent(clock) -> None:
    assert SHARE == 0.02  # README
    budget = Budget()
    clock(1000.0)
    budget.began = time.perf_counter()
    clock(0.99 * FIRST_GUESS / SHARE)
    assert not budget.allows_pictures(0.1)
    clock(0.02 * FIRST_GUESS / SHARE)
    assert budget.allows_pictures(0.1)


def test_later_pictures_are_expected_to_take_as_long_as_the_slowest(clock) -> None:
    budget = Budget()
    for seconds, on_pictures in ((3.0, True), (1.0, True), (2.0, False)):
        with budget.spending(on_pictures):
            clock(seconds)
    assert budget.seconds == 6.0
    budget.began = time.perf_counter()
    clock(8.9 / SHARE)
    assert not budget.allows_pictures(0.5)  # 6 were spent, 3 more would be
    clock(0.2 / SHARE)
    assert budget.allows_pictures(0.5)


def test_pictures_are_allowed_once_in_each_quarter(clock) -> None:
    budget = Budget()
    clock(2 * FIRST_GUESS / SHARE)
    progress = (0.1, 0.2, 0.25, 0.49, 0.74, 0.75, 0.99)
    allowed = [share for share in progress if budget.allows_pictures(share)]
    assert allowed == [0.1, 0.25, 0.74, 0.75]
