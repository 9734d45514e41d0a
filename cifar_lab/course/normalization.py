"""Batch normalization of the course, and layer normalization, which the edition of 2020 has.

Each comes in three forms: a module for autograd, a Function with a backward pass written by hand,
and a module that calls this Function.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cifar_lab.layers import BatchNormFunction, batch_norm_composed
from cifar_lab.layers.layer_norm import LayerNormFunction, layer_norm_composed


class _ManualFunction:
    """The course calls ``apply`` on an instance; it is a static method of the subclasses."""

    def __init__(self, n_neurons: int | None = None) -> None:
        """Take ``n_neurons`` and leave it unused."""


class CustomBatchNormManualFunction(_ManualFunction):
    """Batch normalization with the hand-written backward pass of ``layers.BatchNormFunction``."""

    @staticmethod
    def apply(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Map x (B, C) to (B, C) with gamma (C,) and beta (C,)."""
        return BatchNormFunction.apply(x, gamma, beta, eps)[0]


class CustomLayerNormManualFunction(_ManualFunction):
    """Layer normalization with the hand-written backward pass of ``LayerNormFunction``."""

    @staticmethod
    def apply(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Map x (B, C) to (B, C) with gamma (C,) and beta (C,)."""
        return LayerNormFunction.apply(x, gamma, beta, eps)


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
    """Batch normalization in elementary operations, differentiated by autograd.

    The statistics are those of the batch, in training and in evaluation.
    """

    @staticmethod
    def _function(*args: Any) -> Tensor:
        return batch_norm_composed(*args)[0]


class CustomBatchNormManualModule(_Normalization):
    """The same layer with the backward pass of ``CustomBatchNormManualFunction``."""

    _function = staticmethod(CustomBatchNormManualFunction.apply)


class CustomLayerNormAutograd(_Normalization):
    """Layer normalization in elementary operations, differentiated by autograd."""

    _function = staticmethod(layer_norm_composed)


class CustomLayerNormManualModule(_Normalization):
    """The same layer with the backward pass of ``CustomLayerNormManualFunction``."""

    _function = staticmethod(CustomLayerNormManualFunction.apply)
