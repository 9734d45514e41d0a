"""The time that pictures may take: a share of the time of the run, once a quarter."""

import time
from unittest.mock import Mock

import pytest

from cifar_lab.dashboards.tensorboard import FIRST_GUESS, SHARE, Budget


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A clock whose ``return_value`` is the time."""
    monkeypatch.setattr(time, "perf_counter", clock := Mock(return_value=0.0))
    return clock


def test_the_first_pictures_wait_until_their_likely_time_is_two_percent(clock) -> None:
    assert SHARE == 0.02  # README
    budget = Budget()
    budget.began = 1000.0
    clock.return_value = 1000.0 + 0.99 * FIRST_GUESS / SHARE
    assert not budget.allows_pictures(0.1)
    clock.return_value = 1000.0 + 1.01 * FIRST_GUESS / SHARE
    assert budget.allows_pictures(0.1)


def test_later_pictures_are_expected_to_take_as_long_as_the_slowest(clock) -> None:
    budget = Budget()
    for seconds, on_pictures in ((3.0, True), (1.0, True), (2.0, False)):
        with budget.spending(on_pictures):
            clock.return_value += seconds
    assert budget.seconds == 6.0
    clock.return_value = 8.9 / SHARE
    assert not budget.allows_pictures(0.5)  # 6 were spent, 3 more would be
    clock.return_value = 9.1 / SHARE
    assert budget.allows_pictures(0.5)


def test_pictures_are_allowed_once_in_each_quarter(clock) -> None:
    budget = Budget()
    clock.return_value = 2 * FIRST_GUESS / SHARE
    progress = (0.1, 0.2, 0.25, 0.49, 0.74, 0.75, 0.99)
    allowed = [share for share in progress if budget.allows_pictures(share)]
    assert allowed == [0.1, 0.25, 0.74, 0.75]
