"""Convolution with 3×3 kernels, stride 1 and padding 1: images keep their height and width.

As in every deep learning library the kernel is not flipped, so it is a cross-correlation. Shapes:
x (B, C, H, W), weight (K, C, 3, 3), bias (K,), output (B, K, H, W).
"""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.checks import Array, after_forward, check_array
from cifar_lab.numpy_reference.initial import Rng, initial_weights
from cifar_lab.numpy_reference.layer import Layer


class Conv3x3(Layer):
    """`y_bkij = b_k + Σ_cuv w_kcuv x_bc,i+u−1,j+v−1` with zeros outside the image.

    Parameters `weight` (K, C, 3, 3) and `bias` (K,); by default they start as PyTorch's (see
    `initial.py`).

    Args:
        in_channels: C, at least 1.
        out_channels: K, at least 1.
        std: of the first weights, at least 0, or None for PyTorch's default.
        rng: a NumPy generator, a seed, or None for a new one.
        dtype: of the parameters, float32 or float64; inputs must have the same.

    Raises:
        ValueError: a wrong number of channels, `std` or dtype.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        std: float | None = None,
        rng: Rng = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        shape = (out_channels, in_channels, 3, 3)
        self.params = initial_weights(shape, std=std, rng=rng, dtype=dtype)
        self._x: Array | None = None

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, K, H, W).

        Raises:
            ValueError: `x` has another shape, or another dtype than the weight.
        """
        weight, bias = self.params["weight"], self.params["bias"]
        check_array("Conv3x3: x", x, ("B", weight.shape[1], "H", "W"), dtype=weight.dtype)
        self._x = x
        return _correlate(x, weight) + bias[:, None, None]

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, K, H, W) to ∂L/∂x (B, C, H, W).

        Raises:
            ValueError: `dout` has another shape or dtype than the output.
            RuntimeError: `forward` has not run.
        """
        x, weight = after_forward(self._x), self.params["weight"]
        b, _, h, w = x.shape
        check_array("Conv3x3: dout", dout, (b, len(weight), h, w), dtype=weight.dtype)
        # ∂L/∂w_kcuv = Σ_bij dout_bkij x_bc,i+u−1,j+v−1: sums over samples and places
        self.grads["weight"] = np.tensordot(dout, _patches(x), axes=((0, 2, 3), (0, 2, 3)))
        self.grads["bias"] = dout.sum(axis=(0, 2, 3))
        # The pixel at i+u−1 met kernel row u on its way to i; seen from the pixel, i lies 1−u away.
        # So the way back is the same sum with the kernel turned round and k and c exchanged.
        return _correlate(dout, weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))


def _patches(x: Array) -> Array:
    """Return a view (B, C, H, W, 3, 3): the neighbourhood of each pixel, zeros outside."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))


def _correlate(x: Array, weight: Array) -> Array:
    """Return Σ_cuv weight_kcuv x_bc,i+u−1,j+v−1 as (B, K, H, W); one matrix product."""
    out = np.tensordot(_patches(x), weight, axes=((1, 4, 5), (1, 2, 3)))  # (B, H, W, K)
    return out.transpose(0, 3, 1, 2)
