"""Layer normalization of (B, C) over the features of a sample, with a backward pass by hand.

With sums over the C features of a sample in the last line, and over the samples above it:

    xhat = (x - mean) / sqrt(var + eps)       dbeta  = Σ dy
    y    = gamma * xhat + beta                dgamma = Σ dy * xhat
                                              dxhat  = gamma * dy
    dx   = inv_std / C * (C * dxhat - Σ dxhat - xhat * Σ (dxhat * xhat))

``docs/derivations.md`` derives them, and ``numpy_reference/layer_norm.py`` is the same in NumPy.

Source: Ba, Kiros and Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450.
"""

from typing import Any

import torch
from torch import Tensor


class LayerNormFunction(torch.autograd.Function):
    """``LayerNormFunction.apply(x, gamma, beta, eps)``, which can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        """Map x (B, C) to (B, C) with gamma (C,), beta (C,) and ``eps``, added to the variance."""
        ctx.eps = eps
        ctx.save_for_backward(x, gamma)
        return layer_norm_composed(x, gamma, beta, eps)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``gamma`` and ``beta``."""
        (dy,), (x, gamma) = grad_outputs, ctx.saved_tensors
        xhat, inv_std = _normalised(x, ctx.eps)
        dxhat = gamma * dy
        through_mean = dxhat.mean(1, keepdim=True)
        through_var = xhat * (dxhat * xhat).mean(1, keepdim=True)
        dx = inv_std * (dxhat - through_mean - through_var)
        return dx, (dy * xhat).sum(0), dy.sum(0), None


def layer_norm_composed(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Compute the forward pass as it is defined, and leave the backward pass to autograd."""
    return gamma * _normalised(x, eps)[0] + beta


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return xhat (B, C) and 1 / sqrt(var + eps) (B, 1), with the biased variance."""
    centred = x - x.mean(1, keepdim=True)
    inv_std = (centred.square().mean(1, keepdim=True) + eps).rsqrt()
    return centred * inv_std, inv_std
