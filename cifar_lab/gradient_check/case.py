"""What is checked: a layer, an input, and the same function written in torch.

Below it, how the numbers of a case are drawn.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cifar_lab.numpy_reference.checks import Array

Rng = np.random.Generator
Params = dict[str, torch.Tensor]
LayerClass = Callable[..., Any]
Shape = tuple[int, ...]

Terms = Callable[[Array, dict[str, Array], Array], dict[str, float]]
"""From the input, the parameters and the upstream gradient to the size of a gradient's terms."""


def no_terms(x: Array, params: dict[str, Array], dout: Array) -> dict[str, float]:
    """Say that no gradient cancels, however it is drawn."""
    return {}


@dataclass(frozen=True)
class Case:
    """A layer at one input.

    Attributes:
        layer: `forward(x, *args)` and either `backward(dout)`, or `backward()` for a loss; its
            `params` and `grads` where it has parameters. float64.
        x: the input, float64.
        reference: the same function in torch, of `x` and a dictionary of parameters, all tensors.
        args: what `forward` takes besides `x`, such as targets or a mask.
        is_loss: whether the output is a number and `backward` takes nothing.
        terms: by gradient ("x" or a parameter's name), the norm of the terms whose sum it is, for
            those that may nearly cancel; the error is then measured by that.
        smooth: False at a kink, where a central difference means nothing.
    """

    layer: Any
    x: Array
    reference: Callable[[torch.Tensor, Params], torch.Tensor]
    args: tuple[Any, ...] = ()
    is_loss: bool = False
    terms: Terms = no_terms
    smooth: bool = True

    @property
    def params(self) -> dict[str, Array]:
        """The layer's parameters; none for a loss."""
        return getattr(self.layer, "params", {})

    def forward(self, x: Array) -> Array:
        """Return the layer's output for `x`."""
        return np.asarray(self.layer.forward(x, *self.args))

    def backward(self, dout: Array) -> dict[str, Array]:
        """Return every gradient, by name; "x" is the input's."""
        dx = dout * self.layer.backward() if self.is_loss else self.layer.backward(dout)
        return {"x": dx, **getattr(self.layer, "grads", {})}

    def astype(self, dtype: npt.DTypeLike) -> "Case":
        """Return a copy that computes in `dtype`, its numbers rounded to it."""
        layer = deepcopy(self.layer)
        for name, value in vars(layer).items():
            setattr(layer, name, _cast(value, dtype))
        return replace(self, layer=layer, x=_cast(self.x, dtype), args=_cast(self.args, dtype))


def randomised(layer: Any, rng: Rng) -> Any:
    """Draw every parameter: where a bias is 0 or a gamma 1, a mistake may not show."""
    for name, param in layer.params.items():
        layer.params[name] = rng.normal(size=param.shape)
    return layer


def spread(rng: Rng, shape: Shape) -> Array:
    """Return distinct numbers from −2 to 2 in random places, none near 0 and none near another."""
    n = int(np.prod(shape))
    half_steps = np.arange(1 - n, n, 2) + 0.5  # … −2.5, −0.5, 1.5, 3.5 …: never 0
    return rng.permutation(2 * half_steps / n).reshape(shape)


def norm(array: Array) -> float:
    """Return the square root of the sum of squares."""
    return float(np.linalg.norm(array))


def _cast(value: Any, dtype: npt.DTypeLike) -> Any:
    """Cast the float arrays in a value, a tuple or a dictionary; leave everything else."""
    if isinstance(value, dict):
        return {key: _cast(item, dtype) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_cast(item, dtype) for item in value)
    is_float_array = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
    return value.astype(dtype) if is_float_array else value
