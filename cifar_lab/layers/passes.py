"""The passes over large tensors that batch normalization is made of.

Large is (B, C), (B, C, L) or (B, C, H, W); what belongs to a channel is (1, C, 1, ...), ready to
broadcast. A pass takes ``work``, a tensor like ``x`` that every intermediate result is written
into, so that nothing else of that size is allocated; it may be ``x`` itself. Without it the results
are new tensors, which autograd can differentiate.
"""

from __future__ import annotations

import torch
from torch import Tensor


def channel_sum(x: Tensor) -> Tensor:
    """Σ x over all but the channels: (B, C, ...) to (1, C, 1, ...)."""
    return x.sum([0, *range(2, x.dim())], keepdim=True)


def shifted_sums(x: Tensor, shift: Tensor, *, work: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Σ (x - shift) and Σ (x - shift)², both (1, C, 1, ...)."""
    shifted = torch.sub(x, shift, out=work)
    return channel_sum(shifted), channel_sum(torch.mul(shifted, shifted, out=work))


def beta_sums(dy: Tensor, *, work: Tensor | None = None) -> tuple[Tensor]:
    """Σ dy, (1, C, 1, ...); needs no ``work``."""
    return (channel_sum(dy),)


def gamma_sums(x: Tensor, dy: Tensor, mean: Tensor, *, work: Tensor | None = None) -> tuple[Tensor]:
    """Σ (x - mean) * dy, (1, C, 1, ...)."""
    centred = torch.sub(x, mean, out=work)
    return (channel_sum(torch.mul(centred, dy, out=work)),)


def gradient_sums(
    x: Tensor, dy: Tensor, mean: Tensor, *, work: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Σ dy and Σ (x - mean) * dy, both (1, C, 1, ...)."""
    return *beta_sums(dy), *gamma_sums(x, dy, mean, work=work)


def line(x: Tensor, slope: Tensor, offset: Tensor, *, work: Tensor | None = None) -> Tensor:
    """``x * slope + offset``, like ``x``."""
    return torch.addcmul(offset, x, slope, out=work)


def plane(
    x: Tensor,
    dy: Tensor,
    slope: Tensor,
    dy_slope: Tensor,
    offset: Tensor,
    *,
    work: Tensor | None = None,
) -> Tensor:
    """``x * slope + dy * dy_slope + offset``, like ``x``."""
    return torch.addcmul(line(x, slope, offset, work=work), dy, dy_slope, out=work)
