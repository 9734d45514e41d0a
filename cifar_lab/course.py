"""The names that students of the course know, with the course's behaviour.

Adapters around the NumPy reference and `cifar_lab.layers`, so that a student's own tests run
against them, with `from cifar_lab.course import LinearModule` in place of `from modules import
LinearModule`. The NumPy modules compute in float64 whatever they are given. `params` and `grads`
are dictionaries keyed `weight` (out, in) and `bias` (out,); `params` is read anew at each forward,
so a numerical gradient check may change it in place. Weights are drawn under `np.random.seed`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cifar_lab.layers import BatchNormFunction, batch_norm_composed
from cifar_lab.numpy_reference.checks import Array
from cifar_lab.numpy_reference.cross_entropy import CrossEntropy
from cifar_lab.numpy_reference.layer import Layer
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.relu import ReLU
from cifar_lab.numpy_reference.softmax import Softmax

__all__ = [
    "MLP",
    "CrossEntropyModule",
    "CustomBatchNormAutograd",
    "CustomBatchNormManualFunction",
    "CustomBatchNormManualModule",
    "LinearModule",
    "ReLUModule",
    "SoftMaxModule",
]


class _Module:
    """A layer of the reference that takes arrays of any kind of number."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return the layer's output for `x`, float64."""
        return self._layer.forward(_float64(x))

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Return the gradient with respect to the last `x`, float64."""
        return self._layer.backward(_float64(dout))


class LinearModule(_Module):
    """`y = x Wᵀ + b`, x (B, in) to (B, out); see `numpy_reference.linear.Linear`.

    Attributes:
        params: `weight` (out, in) from N(0, 0.0001²), `bias` (out,) 0.
        grads: the same shapes; zeros until `backward` runs.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        # A seed out of NumPy's old generator, which the course seeds.
        layer = Linear(in_features, out_features, rng=int(np.random.randint(2**31)))
        super().__init__(layer)
        self.params = layer.params
        self.grads = {name: np.zeros_like(param) for name, param in layer.params.items()}

    def forward(self, x: npt.ArrayLike) -> Array:
        """Map x (B, in) to (B, out), float64."""
        self._layer.params = {name: _float64(param) for name, param in self.params.items()}
        return super().forward(x)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Map ∂L/∂y (B, out) to ∂L/∂x (B, in), and overwrite `grads`."""
        dx = super().backward(dout)
        self.grads.update(self._layer.grads)
        return dx


class ReLUModule(_Module):
    """`y = max(0, x)`; see `numpy_reference.relu.ReLU`."""

    def __init__(self) -> None:
        super().__init__(ReLU())


class SoftMaxModule(_Module):
    """Logits (B, C) to probabilities (B, C); see `numpy_reference.softmax.Softmax`."""

    def __init__(self) -> None:
        super().__init__(Softmax())


class CrossEntropyModule:
    """The mean loss of a batch; see `numpy_reference.cross_entropy.CrossEntropy`."""

    def forward(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Return the mean loss of probabilities x (B, C) under one-hot targets y (B, C)."""
        return CrossEntropy().forward(_float64(x), _float64(y))

    def backward(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
        """Return ∂L/∂x (B, C); needs no `forward` before, and no rows of sum 1."""
        loss = CrossEntropy()
        loss.forward(_float64(x), _float64(y))
        return loss.backward()


class MLP:
    """Linear and ReLU modules in turn, then linear and softmax: it ends in probabilities.

    Args:
        n_inputs: features of a sample.
        n_hidden: units of each hidden layer; empty for a linear classifier.
        n_classes: probabilities of a sample.

    Attributes:
        layers: the modules, first to last; those with `params` are the linear ones.
    """

    def __init__(self, n_inputs: int, n_hidden: Sequence[int], n_classes: int) -> None:
        self.layers: list[_Module] = []
        for n_units in n_hidden:
            self.layers += [LinearModule(n_inputs, n_units), ReLUModule()]
            n_inputs = n_units
        self.layers += [LinearModule(n_inputs, n_classes), SoftMaxModule()]

    def forward(self, x: npt.ArrayLike) -> Array:
        """Map x (B, n_inputs) to probabilities (B, n_classes)."""
        out = _float64(x)
        for layer in self.layers:
            out = layer.forward(out)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Take the loss gradient of the probabilities back through every module."""
        dx = _float64(dout)
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return dx


class CustomBatchNormManualFunction:
    """Batch normalization with the hand-written backward pass of `layers.BatchNormFunction`.

    The course makes an instance and calls its `apply`, which is the class's own.

    Args:
        n_neurons: not used.
    """

    def __init__(self, n_neurons: int | None = None) -> None:
        pass

    @staticmethod
    def apply(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Map x (B, C) to (B, C) with gamma (C,) and beta (C,)."""
        return BatchNormFunction.apply(x, gamma, beta, eps)[0]


class _CustomBatchNorm(nn.Module):
    """Batch normalization of (B, n_neurons) by the batch's own statistics, always.

    As in the course there are no running statistics, so evaluation does the same as training.

    Args:
        n_neurons: C.
        eps: added to the variance, under the root.
    """

    def __init__(self, n_neurons: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.n_neurons, self.eps = n_neurons, eps
        self.gamma = nn.Parameter(torch.ones(n_neurons))
        self.beta = nn.Parameter(torch.zeros(n_neurons))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, n_neurons) to the same shape.

        Raises:
            ValueError: `x` has another shape.
        """
        if x.dim() != 2 or x.shape[1] != self.n_neurons:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {self.n_neurons})")
        return self._normalise(x)

    def _normalise(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class CustomBatchNormAutograd(_CustomBatchNorm):
    """Composed of elementary operations: autograd derives the backward pass."""

    def _normalise(self, x: Tensor) -> Tensor:
        return batch_norm_composed(x, self.gamma, self.beta, self.eps)[0]


class CustomBatchNormManualModule(_CustomBatchNorm):
    """Around `CustomBatchNormManualFunction`."""

    def _normalise(self, x: Tensor) -> Tensor:
        return CustomBatchNormManualFunction.apply(x, self.gamma, self.beta, self.eps)


def _float64(array: npt.ArrayLike) -> Array:
    """Return the numbers as float64: the same array if it is one."""
    return np.asarray(array, dtype=np.float64)
