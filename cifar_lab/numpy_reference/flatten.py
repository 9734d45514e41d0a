"""Images to rows: (B, C, H, W) → (B, C·H·W)."""

from math import prod
from typing import Any

import numpy as np

from cifar_lab.numpy_reference.checks import Array, after_forward, check_array
from cifar_lab.numpy_reference.layer import Layer


class Flatten(Layer):
    """The same numbers in another shape; so is the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, C·H·W).

        Raises:
            ValueError: `x` is no float array of four dimensions.
        """
        check_array("Flatten: x", x, ("B", "C", "H", "W"))
        self._shape, self._dtype = x.shape, x.dtype
        return x.reshape(len(x), prod(x.shape[1:]))

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, C·H·W) to ∂L/∂x (B, C, H, W).

        Raises:
            ValueError: `dout` has another shape or dtype than the output.
            RuntimeError: `forward` has not run.
        """
        b, c, h, w = after_forward(self._shape)
        check_array("Flatten: dout", dout, (b, c * h * w), dtype=self._dtype)
        return dout.reshape(b, c, h, w)
