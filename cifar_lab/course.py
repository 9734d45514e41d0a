"""The modules of the course, under the names and with the behaviour that students know.

They wrap the NumPy reference and ``cifar_lab.layers``, so that a student's own tests run against
them: ``from cifar_lab.course import LinearModule`` replaces ``from modules import LinearModule``.

The NumPy modules compute in float64 for inputs of any dtype. ``params`` and ``grads`` are
dictionaries with the keys ``weight`` (out, in) and ``bias`` (out,). ``params`` is read at each
forward pass, so a numerical gradient check may change it in place. ``np.random.seed`` determines
the initial weights.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cifar_lab.layers import BatchNormFunction, batch_norm_composed
from cifar_lab.numpy_reference.activations import ReLU, Softmax
from cifar_lab.numpy_reference.cross_entropy import CrossEntropy
from cifar_lab.numpy_reference.layer import Array, Layer
from cifar_lab.numpy_reference.linear import Linear

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
    """A layer of the reference that takes arrays of any numeric dtype."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return the layer's output for ``x``, float64."""
        return self._layer.forward(_float64(x))

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Return the gradient with respect to the last ``x``, float64."""
        return self._layer.backward(_float64(dout))


class LinearModule(_Module):
    """``y = x Wᵀ + b``, x (B, in) to (B, out); see ``numpy_reference.linear.Linear``.

    The weight is drawn from N(0, 0.0001²) and the bias is 0; ``grads`` are 0 until ``backward``.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        # The seed comes from NumPy's legacy generator, which the course seeds.
        super().__init__(Linear(in_features, out_features, rng=int(np.random.randint(2**31))))
        self.params = self._layer.params
        self.grads = {name: np.zeros_like(param) for name, param in self.params.items()}

    def forward(self, x: npt.ArrayLike) -> Array:
        """Map x (B, in) to (B, out), float64."""
        self._layer.params = {name: _float64(param) for name, param in self.params.items()}
        return super().forward(x)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Map ∂L/∂y (B, out) to ∂L/∂x (B, in), and overwrite ``grads``."""
        dx = super().backward(dout)
        self.grads.update(self._layer.grads)
        return dx


class ReLUModule(_Module):
    """``y = max(0, x)``; see ``numpy_reference.activations.ReLU``."""

    def __init__(self) -> None:
        super().__init__(ReLU())


class SoftMaxModule(_Module):
    """Logits (B, C) to probabilities (B, C); see ``numpy_reference.activations.Softmax``."""

    def __init__(self) -> None:
        super().__init__(Softmax())


class CrossEntropyModule:
    """The mean loss of a batch; see ``numpy_reference.cross_entropy.CrossEntropy``."""

    def forward(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Return the mean loss of probabilities x (B, C) under one-hot targets y (B, C)."""
        return CrossEntropy().forward(_float64(x), _float64(y))

    def backward(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
        """Return ∂L/∂x (B, C). No ``forward`` is needed before, and rows of x need not sum to 1."""
        loss = CrossEntropy()
        loss.forward(_float64(x), _float64(y))
        return loss.backward()


class MLP:
    """Linear and ReLU modules in turn, then linear and softmax, so it returns probabilities.

    Args:
        n_inputs: number of features of a sample.
        n_hidden: number of units of each hidden layer; empty for a linear classifier.
        n_classes: number of probabilities of a sample.

    Attributes:
        layers: modules from first to last; the linear ones have ``params``.
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
        """Map ∂L/∂p (B, n_classes) to ∂L/∂x (B, n_inputs), and overwrite all ``grads``."""
        dx = _float64(dout)
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return dx


class CustomBatchNormManualFunction:
    """Batch normalization with the hand-written backward pass of ``layers.BatchNormFunction``.

    The course calls ``apply`` on an instance; it is a static method. ``n_neurons`` is not used.
    """

    def __init__(self, n_neurons: int | None = None) -> None:
        pass

    @staticmethod
    def apply(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Map x (B, C) to (B, C) with gamma (C,) and beta (C,)."""
        return BatchNormFunction.apply(x, gamma, beta, eps)[0]


class CustomBatchNormAutograd(nn.Module):
    """Batch normalization of (B, n_neurons) in elementary operations, differentiated by autograd.

    As in the course there are no running statistics, so evaluation does the same as training, with
    the statistics of the batch.

    Args:
        n_neurons: number of features.
        eps: number added to the variance, under the root.
    """

    _function = staticmethod(batch_norm_composed)

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
        return self._function(x, self.gamma, self.beta, self.eps)[0]


class CustomBatchNormManualModule(CustomBatchNormAutograd):
    """The same layer with the backward pass written by hand in ``layers.BatchNormFunction``."""

    _function = staticmethod(BatchNormFunction.apply)


def _float64(array: npt.ArrayLike) -> Array:
    return np.asarray(array, dtype=np.float64)
