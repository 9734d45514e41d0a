"""The learning rate of a run: a linear warm-up, then a linear decay to 0 one step after the last.

Source of the shape: cifar10-airbench (https://github.com/KellerJordan/cifar10-airbench), and
"Straight to Zero" (https://arxiv.org/abs/2502.15938) for the decay to zero.
"""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def triangle(optimizer: Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Return a schedule that scales the rates of all groups, whose ``lr`` is their highest rate.

    Step it after each of the ``steps`` of the run; later steps have the rate of the last one. The
    rates rise during the share ``warmup`` of the steps, in [0, 1).
    """
    rise = max(1.0, warmup * steps)

    def scale(step: int) -> float:
        step = min(step, steps - 1)
        return min((step + 1) / rise, (steps - step) / max(1.0, steps - rise + 1), 1.0)

    return LambdaLR(optimizer, scale)
