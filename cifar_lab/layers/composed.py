"""Batch normalization composed of elementary operations; autograd derives the backward pass.

The definition, and what the hand-written backward pass of ``function.py`` is measured against.
Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", 2015, https://arxiv.org/abs/1502.03167, algorithm 1.
"""

from __future__ import annotations

from torch import Tensor

from .checks import check_channels, check_input
from .passes import channel_sum
from .pieces import as_channels, working_dtype
from .sync import over_ranks, several_ranks


def batch_norm_composed(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    eps: float = 1e-5,
    sync: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalise each channel of ``x`` with the statistics of the batch.

    Arguments, results and errors are those of ``BatchNormFunction.forward``. Autograd keeps several
    tensors of the size of ``x`` for this form; the hand-written one keeps ``x`` alone.
    """
    check_input(x)
    check_channels(x, gamma=gamma, beta=beta)
    wide = x.to(working_dtype(x.dtype))
    total, count = channel_sum(wide), wide.new_full((), x.numel() // x.shape[1])
    if several_ranks(sync):
        total, count = over_ranks(total, count)
    mean = total / count
    squares = channel_sum((wide - mean) ** 2)
    if several_ranks(sync):
        (squares,) = over_ranks(squares)
    var = squares / count
    y = (wide - mean) / (var + eps).sqrt()
    if gamma is not None:
        y = y * as_channels(gamma, x)
    if beta is not None:
        y = y + as_channels(beta, x)
    return y.to(x.dtype), mean.detach().view(-1), var.detach().view(-1), count
