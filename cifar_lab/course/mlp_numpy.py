"""The multi-layer perceptron of the course in NumPy."""

from collections.abc import Callable, Sequence

import numpy.typing as npt

from cifar_lab.course.modules import LinearModule, Module, ReLUModule, SoftMaxModule, float64
from cifar_lab.numpy_reference.layer import Array


class MLP:
    """Linear modules and activations in turn, then a linear and a softmax module.

    Args:
        n_inputs: number of features of a sample.
        n_hidden: number of units of each hidden layer; empty for a linear classifier.
        n_classes: number of probabilities of a sample.
        activation: class or function that makes a hidden activation: ``ReLUModule``, or
            ``ELUModule`` from the edition of 2020 on.
        kaiming: whether to use Kaiming initialisation, as in the editions from 2022 on.

    Attributes:
        layers: modules from first to last; the linear ones have ``params``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: Sequence[int],
        n_classes: int,
        *,
        activation: Callable[[], Module] = ReLUModule,
        kaiming: bool = False,
    ) -> None:
        self.layers: list[Module] = []
        for n_units in n_hidden:
            is_first = not self.layers
            self.layers.append(LinearModule(n_inputs, n_units, is_first if kaiming else None))
            self.layers.append(activation())
            n_inputs = n_units
        is_first = not self.layers
        last = LinearModule(n_inputs, n_classes, is_first if kaiming else None)
        self.layers += [last, SoftMaxModule()]

    def forward(self, x: npt.ArrayLike) -> Array:
        """Map x (B, n_inputs) to probabilities (B, n_classes)."""
        out = float64(x)
        for layer in self.layers:
            out = layer.forward(out)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Map ∂L/∂p (B, n_classes) to ∂L/∂x (B, n_inputs), and overwrite all ``grads``."""
        dx = float64(dout)
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return dx

    def clear_cache(self) -> None:
        """Delete what the modules keep for ``backward``."""
        for layer in self.layers:
            layer.clear_cache()
