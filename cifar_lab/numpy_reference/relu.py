"""The rectifier: what is negative becomes zero, and so does its gradient."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.checks import Array, after_forward, check_array
from cifar_lab.numpy_reference.layer import Layer


class ReLU(Layer):
    """`y = max(0, x)`, element by element, for an array of any shape.

    Convention: the derivative at 0, where there is none, is 0, as in PyTorch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._positive: npt.NDArray[np.bool_] | None = None
        self._dtype: np.dtype[Any] | None = None

    def forward(self, x: Array) -> Array:
        """Return max(0, x) in the shape of `x`.

        Raises:
            ValueError: `x` is neither float32 nor float64.
        """
        check_array("ReLU: x", x, np.shape(x))
        self._positive, self._dtype = x > 0, x.dtype
        return np.maximum(x, 0)

    def backward(self, dout: Array) -> Array:
        """Let the gradient through where the **input** was positive.

        Raises:
            ValueError: `dout` has another shape or dtype than the input.
            RuntimeError: `forward` has not run.
        """
        positive = after_forward(self._positive)
        check_array("ReLU: dout", dout, positive.shape, dtype=self._dtype)
        # The Jacobian is diagonal, 1(x_j > 0); the product with it is a mask.
        return dout * positive
