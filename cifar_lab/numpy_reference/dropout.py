"""Dropout: each number is set to zero with probability p, and the others are scaled up.

Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
https://jmlr.org/papers/v15/srivastava14a.html. There the weights are scaled down in evaluation.
Here, as in PyTorch, the kept numbers are multiplied by 1/(1 − p) in training instead.
"""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.layer import Array, Layer, Rng, check_array


class Dropout(Layer):
    """``y = x m / (1 − p)`` with a random mask m of zeros and ones; in evaluation ``y = x``.

    Args:
        p: probability of dropping a number, at least 0 and below 1.
        rng: generator or seed for the masks.
    """

    def __init__(self, p: float, *, rng: Rng = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}; expected at least 0 and below 1")
        self.p = p
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Array, mask: npt.NDArray[np.bool_] | None = None) -> Array:
        """Drop numbers of x if ``training``.

        Args:
            x: float32 or float64, of any shape.
            mask: True for each number to keep, of the shape of ``x``; drawn if None.
        """
        check_array("Dropout: x", x, np.shape(x))
        if not self.training:
            return self._save_for_backward(x, np.ones_like(x))
        if mask is None:
            mask = self.rng.random(x.shape) >= self.p
        if mask.shape != x.shape or mask.dtype != np.bool_:
            raise ValueError(
                f"Dropout: mask has shape {mask.shape} and dtype {mask.dtype}; "
                f"expected {x.shape} and bool"
            )
        scale = mask.astype(x.dtype) / (1 - self.p)
        return self._save_for_backward(x * scale, scale)

    def backward(self, dout: Array) -> Array:
        """Return ``dout``, scaled like x, where the number was kept, and 0 elsewhere."""
        scale = self._saved_for(dout)
        return dout * scale  # ∂y_i/∂x_j = δ_ij m_j / (1 − p)
