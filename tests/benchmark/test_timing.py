"""Timing: turns, ratios and their intervals."""

import time

import numpy as np
import pytest
import torch

from cifar_lab.benchmark.timing import ratio, spread, take_turns, timed


def test_contenders_take_turns_and_the_first_one_changes() -> None:
    order = []
    contenders = {name: (lambda name=name: order.append(name) or 1.0) for name in "abc"}
    seconds = take_turns(contenders, rounds=4)
    assert "".join(order) == "abcbcacababc"
    assert seconds == {name: [1.0] * 4 for name in "abc"}


def test_what_slows_a_whole_round_does_not_change_the_ratio() -> None:
    base = [1.0, 5.0, 1.0, 3.0, 1.0]
    found = ratio([2 * seconds for seconds in base], base)
    assert (found.low, found.median, found.high) == (2, 2, 2)


def test_the_interval_holds_the_median_and_widens_with_the_noise() -> None:
    base = [1.0] * 11
    calm = ratio([1.0 + 0.01 * n for n in range(11)], base)
    wild = ratio([1.0 + 0.1 * n for n in range(11)], base)
    assert calm.median == pytest.approx(1.05)
    assert calm.low < calm.median < calm.high
    assert wild.high - wild.low > 5 * (calm.high - calm.low)


def test_the_interval_of_a_median_is_that_of_95_percent() -> None:
    rounds = 1001
    values = np.random.default_rng(1).normal(2, 1, rounds)
    found = ratio(values.tolist(), [1.0] * rounds)
    # Of n values, the median's interval reaches from rank n / 2 - sqrt(n) to n / 2 + sqrt(n).
    low, high = np.sort(values)[[int(rounds / 2 - rounds**0.5), int(rounds / 2 + rounds**0.5)]]
    assert found.high - found.low == pytest.approx(high - low, rel=0.2)


def test_timed_is_the_mean_of_the_repeats_without_the_warm_up() -> None:
    calls = []

    def work() -> None:
        calls.append(None)
        time.sleep(0.5 if len(calls) == 1 else 0.01)

    found = timed(work, torch.device("cpu"), repeats=3)
    assert len(calls) == 4
    assert 0.01 <= found < 0.2


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
