"""Timing: turns, ratios and their intervals."""

import numpy as np
import pytest

from timing import ratio, spread, take_turns


def test_contenders_take_turns_and_another_one_is_first_in_each_round() -> None:
    order = []
    contenders = {name: (lambda name=name: order.append(name) or 1.0) for name in "abc"}
    seconds = take_turns(contenders, rounds=4)
    assert "".join(order) == "abcbcacababc"
    assert seconds == {name: [1.0] * 4 for name in "abc"}


def test_what_slows_a_whole_round_does_not_change_the_ratio() -> None:
    base = [1.0, 5.0, 1.0, 3.0, 1.0]
    found = ratio([2 * seconds for seconds in base], base)
    assert found == {"median": 2, "low": 2, "high": 2}


def test_the_interval_of_a_median_is_that_of_95_percent() -> None:
    rounds = 1001
    values = np.random.default_rng(1).normal(2, 1, rounds)
    found = ratio(values.tolist(), [1.0] * rounds)
    # Of n values, the median's interval reaches from rank n / 2 - sqrt(n) to n / 2 + sqrt(n).
    low, high = np.sort(values)[[int(rounds / 2 - rounds**0.5), int(rounds / 2 + rounds**0.5)]]
    assert found["low"] < found["median"] == np.median(values) < found["high"]
    assert found["high"] - found["low"] == pytest.approx(high - low, rel=0.2)


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
