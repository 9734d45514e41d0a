"""Timing that noise cannot flatter: contenders take turns, and ratios are formed round by round.

Machines are shared and clocks change, so a time alone says little. What is slow in one round is
slow for all contenders of that round; the median of the rounds' ratios is what is reported, with
its 95 % interval (bootstrap over the rounds).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

Seconds = float
RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """How many times as long one contender takes as another.

    Attributes:
        median: over the rounds.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def take_turns(
    contenders: Mapping[str, Callable[[], Seconds]], rounds: int
) -> dict[str, list[Seconds]]:
    """Runs each contender once a round, in an order that turns with the rounds.

    Args:
        contenders: each runs once and gives the seconds that count.
        rounds: at least 1.

    Returns:
        The seconds of each contender, a value a round.
    """
    names = list(contenders)
    seconds: dict[str, list[Seconds]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(contenders[name]())
    return seconds


def ratio(seconds: list[Seconds], base: list[Seconds]) -> Ratio:
    """The ratio of two contenders that took turns, with its interval."""
    ratios = np.array(seconds) / np.array(base)
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Ratio(float(np.median(ratios)), float(low), float(high))


def timed(
    work: Callable[[], object], device: torch.device, repeats: int, warm_up: int = 1
) -> Seconds:
    """Mean seconds of ``work`` over repeats, after a warm-up; on a GPU by its own events."""
    for _ in range(warm_up):
        work()
    if device.type == "cuda":
        return _timed_by_events(work, repeats)
    wait_for(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait_for(device)
    return (time.perf_counter() - start) / repeats


def wait_for(device: torch.device) -> None:
    """Waits until a device has done what it was given; a CPU is never ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def _timed_by_events(work: Callable[[], object], repeats: int) -> Seconds:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000 / repeats


def spread(seconds: list[Seconds]) -> dict[str, float]:
    """Median, smallest and largest of some times, in seconds."""
    return {"median": median(seconds), "min": min(seconds), "max": max(seconds)}
