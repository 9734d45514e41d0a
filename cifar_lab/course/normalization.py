"""Batch normalization of the course, and layer normalization of its edition of 2020.

Each has three forms: a module for autograd, a Function with a hand-written backward pass, and a
module that calls this Function. ``docs/derivations.md`` derives the backward passes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cifar_lab.layers import BatchNormFunction, batch_norm_composed


class CustomBatchNormManualFunction:
    """Batch normalization with the hand-written backward pass of ``layers.BatchNormFunction``."""

    def __init__(self, n_neurons: int | None = None) -> None:
        """Do nothing: the course calls ``apply`` on an instance, though it is static."""

    @staticmethod
    def apply(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Map x (B, C) to (B, C) with gamma (C,) and beta (C,)."""
        return BatchNormFunction.apply(x, gamma, beta, eps)[0]


class CustomLayerNormManualFunction(torch.autograd.Function):
    """Layer normalization, ``apply(x, gamma, beta, eps)``, with a backward pass by hand."""

    def __init__(self, n_neurons: int | None = None) -> None:
        """Do nothing: the course calls ``apply`` on an instance, though it is static."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Map x (B, C) to (B, C) with gamma (C,), beta (C,) and ``eps``, added to the variance."""
        ctx.eps = eps
        ctx.save_for_backward(x, gamma)
        return _layer_norm(x, gamma, beta, eps)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``gamma`` and ``beta``."""
        (dy,), (x, gamma) = grad_outputs, ctx.saved_tensors
        xhat, inv_std = _normalised(x, ctx.eps)
        dxhat = gamma * dy
        through_mean = dxhat.mean(1, keepdim=True)
        through_var = xhat * (dxhat * xhat).mean(1, keepdim=True)
        return inv_std * (dxhat - through_mean - through_var), (dy * xhat).sum(0), dy.sum(0), None


def _layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    return gamma * _normalised(x, eps)[0] + beta


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return xhat (B, C) and 1 / sqrt(var + eps) (B, 1), with the biased variance."""
    centred = x - x.mean(1, keepdim=True)
    inv_std = (centred.square().mean(1, keepdim=True) + eps).rsqrt()
    return centred * inv_std, inv_std


class _Normalization(nn.Module):
    """A normalization of (B, n_neurons), with the parameters ``gamma`` and ``beta`` (n_neurons,).

    As in the course there are no running statistics, so evaluation does the same as training.

    Args:
        n_neurons: number of features.
        eps: number added to the variance, under the root.
    """

    _function: Callable[..., Any]

    def __init__(self, n_neurons: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons))
        self.beta = nn.Parameter(torch.zeros(n_neurons))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, n_neurons) to the same shape.

        Raises:
            ValueError: ``x`` has another shape.
        """
        if x.dim() != 2 or x.shape[1] != self.n_neurons:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {self.n_neurons})")
        return self._function(x, self.gamma, self.beta, self.eps)


class CustomBatchNormAutograd(_Normalization):
    """Batch normalization in elementary operations, differentiated by autograd."""

    @staticmethod
    def _function(*args: Any) -> Tensor:
        return batch_norm_composed(*args)[0]


class CustomBatchNormManualModule(_Normalization):
    """The same layer with the backward pass of ``CustomBatchNormManualFunction``."""

    _function = staticmethod(CustomBatchNormManualFunction.apply)


class CustomLayerNormAutograd(_Normalization):
    """Layer normalization in elementary operations, differentiated by autograd."""

    _function = staticmethod(_layer_norm)


class CustomLayerNormManualModule(_Normalization):
    """The same layer with the backward pass of ``CustomLayerNormManualFunction``."""

    _function = staticmethod(CustomLayerNormManualFunction.apply)
