"""The learning rate of a run: a linear rise, then a linear fall to 0 one step after the last.

Source of the shape: cifar10-airbench (https://github.com/KellerJordan/cifar10-airbench), and
"Straight to Zero" (https://arxiv.org/abs/2502.15938) for the fall to zero.
"""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def triangle(optimizer: Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Scales the rates of all groups; to be stepped after each optimizer step.

    Args:
        optimizer: with the highest rates.
        steps: of the run, at least 1. Beyond them the rate stays at that of the last.
        warmup: share of the steps in which the rate rises, in [0, 1).
    """
    rise = max(1.0, warmup * steps)

    def scale(step: int) -> float:
        step = min(step, steps - 1)
        return min((step + 1) / rise, (steps - step) / max(1.0, steps - rise + 1), 1.0)

    return LambdaLR(optimizer, scale)
