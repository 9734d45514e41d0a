"""The formulas of batch normalization: forward, and the backward pass derived by hand.

``x``, ``y`` and their gradients are (B, C), (B, C, L) or (B, C, H, W); what belongs to a channel is
(1, C, 1, ...), but for ``gamma``, ``beta`` and their tangents, which are (C,). N is ``count``, the
number of values of a channel: B * H * W for images. Sums run over the values of a channel.

    mean = Σ x / N                         xhat = (x - mean) * inv_std
    var  = Σ (x - mean)² / N               inv_std = 1 / sqrt(var + eps)
                                           y = gamma * xhat + beta

    dbeta  = Σ dy
    dgamma = Σ dy * xhat
    dx     = inv_std / N * (N * dxhat - Σ dxhat - xhat * Σ (dxhat * xhat))      dxhat = gamma * dy

docs/derivations.md derives them. numpy_reference/batch_norm.py has them line by line; here they are
multiplied out, so that fewer passes over large tensors are needed.

Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", 2015, https://arxiv.org/abs/1502.03167, section 3. Their derivation goes
through dmean and dvar; here these are inserted and simplified.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .passes import beta_sums, gamma_sums, gradient_sums, line, plane, shifted_sums
from .pieces import as_channels, first_values, mapped, result_buffer, summed
from .sync import over_ranks, several_ranks


def batch_statistics(
    x: Tensor, sync: bool = False, buffer: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance, (1, C, 1, ...), and the number of values of a channel, ().

    One look at ``x``, by sums of x - shift. Every shift gives the same but for rounding, and the
    first value of a channel is never far off: at most sqrt(N - 1) standard deviations from the mean
    (Samuelson's inequality). So a channel of mean 1e4 and deviation 1 stays accurate in float32,
    where Σ x² / N - mean² would lose every digit; a constant one has the variance 0; and at worst,
    with one outlier in the first place, the variance is off by a few N * 1e-7 of itself.

    With ``sync``, these are the statistics of all ranks' batches together, which may differ in
    size. ``buffer``, a tensor like ``x``, is overwritten.
    """
    values = x.numel() // x.shape[1]
    shift = first_values(x)
    total, squares = summed(partial(shifted_sums, shift=shift), buffer, x)
    share = 1 / max(values, 1)  # one rank among several may have no values
    deviation = total * share
    mean = shift + deviation
    var = torch.addcmul(squares * share, deviation, deviation, value=-1).clamp(min=0)
    count = mean.new_full((), values)
    if several_ranks(sync):
        return merged_statistics(mean, var, count)
    return mean, var, count


def merged_statistics(mean: Tensor, var: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and count over all ranks, from each rank's own.

    Around another mean m, Σ (x - m)² = count * (var + (mean - m)²).
    """
    total, whole_count = over_ranks(mean * count, count)
    whole_mean = total / whole_count
    (squares,) = over_ranks(count * (var + (mean - whole_mean) ** 2))
    return whole_mean, squares / whole_count, whole_count


def normalise(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
    buffer: Tensor | None = None,
) -> Tensor:
    """``y = gamma * xhat + beta`` like ``x``; without gamma 1, without beta 0 takes its place.

    Multiplied out, ``y = x * slope + offset`` with two numbers a channel: one pass. The rounding of
    ``offset`` is that of an input of the size of the mean.
    """
    slope = (var + eps).rsqrt()
    if gamma is not None:
        slope = slope * as_channels(gamma, x)
    offset = -mean * slope if beta is None else as_channels(beta, x).addcmul(mean, slope, value=-1)
    return mapped(partial(line, slope=slope, offset=offset), buffer, x)


def batch_norm_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    gamma: Tensor | None,
    eps: float,
    sync: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """``dx`` like ``x``, and ``dgamma`` and ``dbeta`` (1, C, 1, ...).

    With ``sync``, ``dx`` is the gradient of the sum of all ranks' losses; ``dgamma`` and ``dbeta``
    are this rank's share, as data-parallel training expects, which averages parameter gradients.
    """
    buffer = result_buffer(x, dy)
    inv_std = (var + eps).rsqrt()
    dbeta, covariance = summed(partial(gradient_sums, mean=mean), buffer, x, dy)
    dgamma = covariance * inv_std
    sum_dy, sum_dy_xhat = over_ranks(dbeta, dgamma) if several_ranks(sync) else (dbeta, dgamma)

    # dxhat = gamma * dy, and gamma is constant in a channel: Σ dxhat = gamma * Σ dy, and
    # Σ (dxhat * xhat) = gamma * Σ (dy * xhat). Multiplied out, dx is a sum of dy and x with factors
    # that belong to the channels: two passes over large tensors instead of seven.
    dy_slope = inv_std if gamma is None else inv_std * as_channels(gamma, x)
    share = dy_slope / -count
    slope = share * inv_std * sum_dy_xhat
    offset = (share * sum_dy).addcmul(slope, mean, value=-1)
    dx = mapped(partial(plane, slope=slope, dy_slope=dy_slope, offset=offset), buffer, x, dy)
    return dx, dgamma, dbeta


def gamma_gradient(dy: Tensor, x: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """``dgamma`` (1, C, 1, ...) alone, where ``x`` wants no gradient."""
    (covariance,) = summed(partial(gamma_sums, mean=mean), result_buffer(x, dy), x, dy)
    return covariance * (var + eps).rsqrt()


def beta_gradient(dy: Tensor) -> Tensor:
    """``dbeta`` (1, C, 1, ...) alone, where ``x`` wants no gradient."""
    (dbeta,) = summed(beta_sums, result_buffer(dy, dy), dy)
    return dbeta


def batch_norm_tangent(
    x_tangent: Tensor | None,
    gamma_tangent: Tensor | None,
    beta_tangent: Tensor | None,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    gamma: Tensor | None,
    eps: float,
    sync: bool = False,
) -> Tensor:
    """The directional derivative of ``y`` along the three tangents; None is a tangent of zero.

    The matrix dy/dx of a channel is symmetric, so ``dx`` for an upstream gradient of ``x_tangent``
    is also what ``x_tangent`` does to ``y``. In gamma and beta, ``y`` is linear.
    """
    if gamma_tangent is None:
        gamma_tangent = x.new_zeros(x.shape[1])
    y_tangent = normalise(x, mean, var, gamma_tangent, beta_tangent, eps)
    if x_tangent is not None:
        dx, _, _ = batch_norm_backward(x_tangent, x, mean, var, count, gamma, eps, sync)
        y_tangent = y_tangent + dx
    return y_tangent
