"""Softmax over the classes of each row. Shape (B, C)."""

import numpy as np

from cifar_lab.numpy_reference.checks import Array, after_forward, check_array
from cifar_lab.numpy_reference.layer import Layer


class Softmax(Layer):
    """`p_i = exp(x_i) / Σ_k exp(x_k)`.

    Safe for logits of any finite size: the largest of a row is subtracted first, which changes
    nothing (numerator and denominator shrink alike) and leaves exponents of at most 0. A class far
    below the largest gets a probability of exactly 0, and then no gradient reaches its logit;
    `SoftmaxCrossEntropy` has no such gap.
    """

    def __init__(self) -> None:
        super().__init__()
        self._p: Array | None = None

    def forward(self, x: Array) -> Array:
        """Map logits (B, C) to probabilities (B, C) in [0, 1], each row of sum 1.

        Raises:
            ValueError: `x` is not of shape (B, C) with at least one class, or no float array.
        """
        check_array("Softmax: x", x, ("B", "C"))
        if x.shape[1] == 0:
            raise ValueError(f"Softmax: x has shape {x.shape}; expected at least one class")
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self._p = e / e.sum(axis=1, keepdims=True)
        return self._p

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂p (B, C) to ∂L/∂x (B, C).

        Raises:
            ValueError: `dout` has another shape or dtype than the output.
            RuntimeError: `forward` has not run.
        """
        p = after_forward(self._p)
        check_array("Softmax: dout", dout, p.shape, dtype=p.dtype)
        # The Jacobian is diag(p) − p pᵀ. Its product with dout needs one dot product a row:
        # dx_j = p_j dout_j − p_j Σ_i dout_i p_i
        return p * (dout - (dout * p).sum(axis=1, keepdims=True))
