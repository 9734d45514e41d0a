"""Timing that is robust to noise on the machine: contenders take turns, in rounds.

Machines are shared and clock rates change, so a time alone says little. What slows one round down
slows down all its contenders, so the ratio of their times is computed for each round. The result is
the median of these ratios with its 95 % interval (bootstrap over the rounds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

Seconds = float
RESAMPLES = 2000


def take_turns(
    contenders: Mapping[str, Callable[[], Seconds]], rounds: int
) -> dict[str, list[Seconds]]:
    """Run each contender once in each round; each round starts with the next one.

    Args:
        contenders: functions by name, each of which runs once and returns the seconds that count.
        rounds: number of rounds, at least 1.

    Returns:
        The seconds of each contender, one value for each round.
    """
    names = list(contenders)
    seconds: dict[str, list[Seconds]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(contenders[name]())
    return seconds


def ratio(seconds: list[Seconds], base: list[Seconds]) -> dict[str, float]:
    """Return the ratio of the times of two contenders.

    Args:
        seconds: times of a contender, one for each round.
        base: times of the other contender in the same rounds.

    Returns:
        The ``median`` over the rounds, and the ends of its 95 % interval, ``low`` and ``high``.
    """
    ratios = np.array(seconds) / np.array(base)
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def spread(seconds: list[Seconds]) -> dict[str, float]:
    """Return the median, the smallest and the largest of some times."""
    return {"median": median(seconds), "min": min(seconds), "max": max(seconds)}
