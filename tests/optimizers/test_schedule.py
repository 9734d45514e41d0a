"""The schedule: rises, falls, ends at its last step, and goes on from a state."""

import pytest
import torch
from torch import nn

from cifar_lab.optimizers.schedule import triangle


def _rates(steps: int, warmup: float, taken: int) -> list[float]:
    """The rates that each step is taken with, as shares of the highest."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    schedule = triangle(optimizer, steps, warmup)
    rates = []
    for _ in range(taken):
        rates.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        schedule.step()
    return rates


def test_the_rate_rises_in_the_warmup_and_falls_to_a_last_step_above_zero() -> None:
    assert _rates(5, 0.0, 5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    falling = [share / 7 for share in (6, 5, 4, 3, 2, 1)]
    assert _rates(10, 0.4, 10) == pytest.approx([0.25, 0.5, 0.75, 1, *falling])


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.9), (2, 0.99), (7, 0.5)])
def test_every_step_of_a_run_learns(steps: int, warmup: float) -> None:
    rates = _rates(steps, warmup, steps + 3)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[steps:] == [rates[steps - 1]] * 3  # a run that is made longer goes on
