"""Activations: ReLU and its variants for hidden layers, and softmax for class probabilities."""

import numpy as np

from cifar_lab.numpy_reference.layer import Array, Layer, check_array


class ReLU(Layer):
    """``y = max(0, x)``, elementwise, for an array of any shape.

    The derivative at 0, which does not exist, is taken to be 0, as in PyTorch.
    """

    def forward(self, x: Array) -> Array:
        """Return max(0, x), of the shape of ``x``."""
        check_array("ReLU: x", x, np.shape(x))
        return self._save_for_backward(np.maximum(x, 0), x > 0)

    def backward(self, dout: Array) -> Array:
        """Return ``dout`` where the **input** was positive, and 0 elsewhere."""
        positive = self._saved_for(dout)
        # The Jacobian is diagonal, 1(x_j > 0); the product with it is a mask.
        return dout * positive


class LeakyReLU(Layer):
    """``y = x`` for positive x and ``y = a x`` otherwise, elementwise, for an array of any shape.

    The derivative at 0, which does not exist, is taken to be a, as in PyTorch.

    Args:
        negative_slope: a, at least 0. With 0 it is ``ReLU``.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        if not negative_slope >= 0:
            raise ValueError(f"negative_slope is {negative_slope}; expected at least 0")
        self.negative_slope = negative_slope

    def forward(self, x: Array) -> Array:
        """Return x or a x, of the shape of ``x``."""
        check_array("LeakyReLU: x", x, np.shape(x))
        positive = x > 0
        return self._save_for_backward(np.where(positive, x, self.negative_slope * x), positive)

    def backward(self, dout: Array) -> Array:
        """Return ``dout`` where the input was positive, and a times ``dout`` elsewhere."""
        positive = self._saved_for(dout)
        return np.where(positive, dout, self.negative_slope * dout)


class ELU(Layer):
    """``y = x`` for positive x and ``y = α (exp(x) − 1)`` otherwise, elementwise.

    The derivative at 0 is taken to be α, as in PyTorch; it exists only for α = 1.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by
    Exponential Linear Units (ELUs)", https://arxiv.org/abs/1511.07289.

    Args:
        alpha: α, above 0. The output is above −α.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha}; expected a number above 0")
        self.alpha = alpha

    def forward(self, x: Array) -> Array:
        """Return x or α (exp(x) − 1), of the shape of ``x``."""
        check_array("ELU: x", x, np.shape(x))
        positive = x > 0
        below = self.alpha * np.expm1(np.minimum(x, 0))  # exp of a large x would overflow
        return self._save_for_backward(np.where(positive, x, below), (positive, below))

    def backward(self, dout: Array) -> Array:
        """Return ``dout`` times 1 where the input was positive, and times α exp(x) elsewhere."""
        positive, below = self._saved_for(dout)
        return np.where(positive, dout, dout * (below + self.alpha))  # α exp(x) = y + α


class Softmax(Layer):
    """``p_i = exp(x_i) / Σ_k exp(x_k)`` over the classes of each row.

    The largest logit of a row is subtracted first. The result stays the same, because numerator and
    denominator are divided by the same number. All exponents are then at most 0, so finite logits
    of any size give finite results. A class far below the largest gets a probability of exactly 0,
    and its logit gets no gradient; ``SoftmaxCrossEntropy`` avoids this.
    """

    def forward(self, x: Array) -> Array:
        """Map logits (B, C), C at least 1, to probabilities (B, C), whose rows sum to 1."""
        check_array("Softmax: x", x, ("B", "C"))
        if x.shape[1] == 0:
            raise ValueError(f"Softmax: x has shape {x.shape}; expected at least one class")
        e = np.exp(x - x.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return self._save_for_backward(p, p)

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂p (B, C) to ∂L/∂x (B, C)."""
        p = self._saved_for(dout)
        # The Jacobian is diag(p) − p pᵀ. Its product with dout needs one dot product per row:
        # dx_j = p_j dout_j − p_j Σ_i dout_i p_i
        return p * (dout - (dout * p).sum(axis=1, keepdims=True))
