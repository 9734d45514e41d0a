"""The layers of the course in NumPy.

They compute in float64 for inputs of any dtype. ``params`` and ``grads`` are dictionaries with the
keys ``weight`` (out, in) and ``bias`` (out,). ``params`` is read at each forward pass, so a
numerical gradient check may change it in place. ``np.random.seed`` determines the initial weights.
"""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.activations import ELU, LeakyReLU, ReLU, Softmax
from cifar_lab.numpy_reference.cross_entropy import CrossEntropy
from cifar_lab.numpy_reference.layer import Array, Layer
from cifar_lab.numpy_reference.linear import Linear


class Module:
    """A layer of the reference that takes arrays of any numeric dtype."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return the layer's output for ``x``, float64."""
        return self._layer.forward(float64(x))

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Return the gradient with respect to the last ``x``, float64."""
        return self._layer.backward(float64(dout))

    def clear_cache(self) -> None:
        """Delete the last input to save memory; ``backward`` then needs a new ``forward``."""
        self._layer.clear_cache()


class LinearModule(Module):
    """``y = x Wᵀ + b``, x (B, in) to (B, out); see ``numpy_reference.linear.Linear``.

    The bias is 0, and ``grads`` are 0 until ``backward``.

    Args:
        in_features: number of inputs of a sample.
        out_features: number of outputs of a sample.
        input_layer: None for a weight from N(0, 0.0001²), as in the editions to 2020; False for
            Kaiming's N(0, 2/in); True for N(0, 1/in), since no activation precedes the first layer.
    """

    def __init__(
        self, in_features: int, out_features: int, input_layer: bool | None = None
    ) -> None:
        std = 1e-4 if input_layer is None else ((1 if input_layer else 2) / in_features) ** 0.5
        # The seed comes from NumPy's legacy generator, which the course seeds.
        seed = int(np.random.randint(2**31))
        super().__init__(Linear(in_features, out_features, std=std, rng=seed))
        self.params = self._layer.params
        self.grads = {name: np.zeros_like(param) for name, param in self.params.items()}

    def forward(self, x: npt.ArrayLike) -> Array:
        """Map x (B, in) to (B, out), float64."""
        self._layer.params = {name: float64(param) for name, param in self.params.items()}
        return super().forward(x)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Map ∂L/∂y (B, out) to ∂L/∂x (B, in), and overwrite ``grads``."""
        dx = super().backward(dout)
        self.grads.update(self._layer.grads)
        return dx


class ReLUModule(Module):
    """``y = max(0, x)``; see ``numpy_reference.activations.ReLU``."""

    def __init__(self) -> None:
        super().__init__(ReLU())


class LeakyReLUModule(Module):
    """``y = x``, or ``neg_slope x`` below 0; see ``numpy_reference.activations.LeakyReLU``."""

    def __init__(self, neg_slope: float) -> None:
        super().__init__(LeakyReLU(neg_slope))


class ELUModule(Module):
    """``y = x``, or ``alpha (exp(x) − 1)`` below 0; see ``numpy_reference.activations.ELU``."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(ELU(alpha))


class SoftMaxModule(Module):
    """Logits (B, C) to probabilities (B, C); see ``numpy_reference.activations.Softmax``."""

    def __init__(self) -> None:
        super().__init__(Softmax())


class CrossEntropyModule:
    """The mean loss of a batch; see ``numpy_reference.cross_entropy.CrossEntropy``.

    The targets y are one-hot (B, C), or integers (B,) from 0 to C − 1, as in the later editions.
    """

    def forward(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Return the mean loss of probabilities x (B, C) under targets y."""
        x = float64(x)
        return CrossEntropy().forward(x, _one_hot(y, x))

    def backward(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
        """Return ∂L/∂x (B, C); this needs no ``forward``, and rows of x need not sum to 1."""
        x, loss = float64(x), CrossEntropy()
        loss.forward(x, _one_hot(y, x))
        return loss.backward()

    def clear_cache(self) -> None:
        """Do nothing: this module keeps nothing."""


def float64(array: npt.ArrayLike) -> Array:
    """Return the numbers as a float64 array; copy them only if they are not one already."""
    return np.asarray(array, dtype=np.float64)


def _one_hot(y: npt.ArrayLike, x: Array) -> Array:
    """Return the targets as rows (B, C) for probabilities x (B, C)."""
    labels = np.asarray(y)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return float64(labels)
    n_classes = x.shape[-1]
    if labels.size and not 0 <= labels.min() <= labels.max() < n_classes:
        raise ValueError(
            f"y has labels from {labels.min()} to {labels.max()}; expected 0 to {n_classes - 1}"
        )
    return np.eye(n_classes)[labels]
