"""Convolution with 3×3 kernels, stride 1 and padding 1: images keep their height and width.

As in other deep learning libraries, the kernel is not flipped: it is a cross-correlation. Shapes:
x (B, C, H, W), weight (K, C, 3, 3), bias (K,), output (B, K, H, W).
"""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.layer import (
    Array,
    Layer,
    Rng,
    Std,
    check_array,
    initial_weights,
)


class Conv3x3(Layer):
    """``y_bkij = b_k + Σ_cuv w_kcuv x_bc,i+u−1,j+v−1`` with zeros outside the image.

    The parameters are ``weight`` (K, C, 3, 3) and ``bias`` (K,).

    Args:
        in_channels: C, at least 1.
        out_channels: K, at least 1.
        std: standard deviation of the initial weights, at least 0, "he", or None for PyTorch's
            default; see ``cifar_lab.numpy_reference.layer.Std``.
        rng: NumPy generator, seed, or None for a new generator.
        dtype: dtype of the parameters and the input, float32 or float64.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        std: Std = None,
        rng: Rng = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        shape = (out_channels, in_channels, 3, 3)
        self.params = initial_weights(shape, std=std, rng=rng, dtype=dtype)

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, K, H, W)."""
        weight, bias = self.params["weight"], self.params["bias"]
        check_array("Conv3x3: x", x, ("B", weight.shape[1], "H", "W"), dtype=weight.dtype)
        return self._save_for_backward(_correlate(x, weight) + bias[:, None, None], x)

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, K, H, W) to ∂L/∂x (B, C, H, W)."""
        x, weight = self._saved_for(dout), self.params["weight"]
        # ∂L/∂w_kcuv = Σ_bij dout_bkij x_bc,i+u−1,j+v−1: sums over samples and positions
        self.grads["weight"] = np.tensordot(dout, _patches(x), axes=((0, 2, 3), (0, 2, 3)))
        self.grads["bias"] = dout.sum(axis=(0, 2, 3))
        # The pixel at i+u−1 was multiplied by kernel row u for output i, which is 1−u rows away.
        # So dx is the same sum with the kernel rotated by 180° and k and c exchanged.
        return _correlate(dout, weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))


def _patches(x: Array) -> Array:
    """Return a view (B, C, H, W, 3, 3) of the neighbourhood of each pixel, with zeros outside."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))


def _correlate(x: Array, weight: Array) -> Array:
    """Return Σ_cuv weight_kcuv x_bc,i+u−1,j+v−1 as (B, K, H, W), in one matrix product."""
    out = np.tensordot(_patches(x), weight, axes=((1, 4, 5), (1, 2, 3)))  # (B, H, W, K)
    return out.transpose(0, 3, 1, 2)
