"""Dropout: each number is set to zero with probability p, and the rest scaled up for it.

Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
https://jmlr.org/papers/v15/srivastava14a.html. There the weights shrink in evaluation; here, as in
PyTorch, the kept numbers grow by 1/(1 − p) in training, and evaluation changes nothing.
"""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.checks import Array, after_forward, check_array
from cifar_lab.numpy_reference.initial import Rng
from cifar_lab.numpy_reference.layer import Layer


class Dropout(Layer):
    """`y = x m / (1 − p)` with a random mask m of zeros and ones while `training`, else `y = x`.

    Args:
        p: the probability of dropping, at least 0 and below 1.
        rng: a generator or a seed for the masks.

    Raises:
        ValueError: `p` is out of range.
    """

    def __init__(self, p: float, *, rng: Rng = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}; expected at least 0 and below 1")
        self.p = p
        self.rng = np.random.default_rng(rng)
        self._scale: Array | None = None

    def forward(self, x: Array, mask: npt.NDArray[np.bool_] | None = None) -> Array:
        """Drop from x, of any shape.

        Args:
            x: float32 or float64.
            mask: which numbers to keep, booleans in the shape of `x`; drawn if not given.

        Raises:
            ValueError: a shape or dtype differs from that.
        """
        check_array("Dropout: x", x, np.shape(x))
        if not self.training:
            self._scale = np.ones_like(x)
            return x
        if mask is None:
            mask = self.rng.random(x.shape) >= self.p
        if mask.shape != x.shape or mask.dtype != np.bool_:
            raise ValueError(
                f"Dropout: mask has shape {mask.shape} and dtype {mask.dtype}; "
                f"expected {x.shape} and bool"
            )
        self._scale = mask.astype(x.dtype) / (1 - self.p)
        return x * self._scale

    def backward(self, dout: Array) -> Array:
        """Let the gradient through where the number was kept, scaled alike.

        Raises:
            ValueError: `dout` has another shape or dtype than the output.
            RuntimeError: `forward` has not run.
        """
        scale = after_forward(self._scale)
        check_array("Dropout: dout", dout, scale.shape, dtype=scale.dtype)
        return dout * scale  # ∂y_i/∂x_j = δ_ij m_j / (1 − p)
