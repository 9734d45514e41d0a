"""A case of the gradient check: a layer, an input, and the same function written in PyTorch."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cifar_lab.numpy_reference.layer import Array

Rng = np.random.Generator
Params = dict[str, torch.Tensor]
LayerClass = Callable[..., Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A layer at one input.

    Attributes:
        layer: float64 layer with ``forward(x, *args)`` and either ``backward(dout)`` or, for a
            loss, ``backward()``. If it has parameters, they are in ``params`` and their gradients
            in ``grads``.
        x: input, float64.
        reference: the same function in PyTorch, of the tensor ``x`` and the parameters by name.
        args: further arguments of ``forward``, such as targets or a mask.
        is_loss: whether the output is a number and ``backward`` takes no arguments.
        terms: function of ``x``, the parameters and the upstream gradient, for gradients that may
            nearly cancel. It returns, by name, the terms whose sum such a gradient is; the
            gradient's error is measured relative to their norm.
        smooth: whether the function has a derivative at ``x``. At a kink, central differences are
            skipped.
    """

    layer: Any
    x: Array
    reference: Callable[[torch.Tensor, Params], torch.Tensor]
    args: tuple[Any, ...] = ()
    is_loss: bool = False
    terms: Callable[[Array, dict[str, Array], Array], dict[str, Array]] = lambda *_: {}
    smooth: bool = True

    @property
    def params(self) -> dict[str, Array]:
        """Return the layer's parameters, an empty dictionary for a loss."""
        return getattr(self.layer, "params", {})

    def forward(self, x: Array) -> Array:
        """Return the layer's output for ``x``."""
        return np.asarray(self.layer.forward(x, *self.args))

    def backward(self, dout: Array) -> dict[str, Array]:
        """Return every gradient by name; "x" is that of the input."""
        dx = dout * self.layer.backward() if self.is_loss else self.layer.backward(dout)
        return {"x": dx, **getattr(self.layer, "grads", {})}

    def astype(self, dtype: npt.DTypeLike) -> "Case":
        """Return a copy with all numbers rounded to ``dtype``, which computes in it."""
        layer = deepcopy(self.layer)
        for name, value in vars(layer).items():
            setattr(layer, name, _cast(value, dtype))
        return replace(self, layer=layer, x=_cast(self.x, dtype), args=_cast(self.args, dtype))


def randomised(layer: Any, rng: Rng) -> Any:
    """Draw every parameter at random, because a bias of 0 or a gamma of 1 can hide a mistake."""
    for name, param in layer.params.items():
        layer.params[name] = rng.normal(size=param.shape)
    return layer


def spread(rng: Rng, shape: Shape) -> Array:
    """Return numbers from −2 to 2 in random order, none near 0 and none near another."""
    n = int(np.prod(shape))
    half_steps = np.arange(1 - n, n, 2) + 0.5  # … −2.5, −0.5, 1.5, 3.5 …: never 0
    return rng.permutation(2 * half_steps / n).reshape(shape)


def _cast(value: Any, dtype: npt.DTypeLike) -> Any:
    """Cast float arrays, also in tuples and dictionaries, and return everything else unchanged."""
    if isinstance(value, dict):
        return {key: _cast(item, dtype) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_cast(item, dtype) for item in value)
    is_float_array = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
    return value.astype(dtype) if is_float_array else value
