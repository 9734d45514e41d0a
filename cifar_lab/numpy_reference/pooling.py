"""Pooling: the maximum or the mean of windows of an image. x (B, C, H, W) → (B, C, H', W').

H' = ⌊(H + 2·padding − kernel) / stride⌋ + 1, and W' alike. Windows may overlap: then a pixel
gathers gradient from each.
"""

from typing import Any

import numpy as np

from cifar_lab.numpy_reference.checks import Array, IntArray, after_forward, check_array
from cifar_lab.numpy_reference.layer import Layer


class Pool(Layer):
    """What both kinds of pooling share: cutting windows out, and adding them back in.

    Args:
        kernel: the side of a window, at least 1.
        stride: the way from one window to the next, at least 1.
        padding: pixels added on each side, at most half the kernel: no window lies outside.

    Raises:
        ValueError: an argument is out of range.
    """

    fill = 0.0

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        if kernel < 1 or stride < 1 or not 0 <= padding <= kernel // 2:
            raise ValueError(
                f"kernel is {kernel}, stride {stride}, padding {padding}; "
                "expected at least 1, at least 1, and from 0 to half the kernel"
            )
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self._shape: tuple[int, ...] | None = None
        self._out_shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None

    def _windows(self, x: Array) -> Array:
        """Copy the windows out of x: (B, C, H', W', kernel²), a window's pixels row by row."""
        name = type(self).__name__
        check_array(f"{name}: x", x, ("B", "C", "H", "W"))
        k, s, p = self.kernel, self.stride, self.padding
        if min(x.shape[2:]) + 2 * p < k:
            raise ValueError(f"{name}: x has shape {x.shape}; expected H and W of {k - 2 * p} up")
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=self.fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
        windows = windows[:, :, ::s, ::s]
        self._shape, self._out_shape, self._dtype = x.shape, windows.shape[:4], x.dtype
        return windows.reshape(*self._out_shape, k * k)

    def _check_dout(self, dout: Array) -> None:
        shape = after_forward(self._out_shape)
        check_array(f"{type(self).__name__}: dout", dout, shape, dtype=self._dtype)

    def _scatter(self, dwindows: Array) -> Array:
        """Add (B, C, H', W', kernel²) up where the windows came from: (B, C, H, W)."""
        (b, c, h, w), (_, _, n_rows, n_cols, n_offsets) = after_forward(self._shape), dwindows.shape
        s, p = self.stride, self.padding
        dx = np.zeros((b, c, h + 2 * p, w + 2 * p), dwindows.dtype)
        for offset in range(n_offsets):  # the same pixel of every window at once
            i, j = divmod(offset, self.kernel)
            dx[:, :, i : i + s * n_rows : s, j : j + s * n_cols : s] += dwindows[..., offset]
        return dx[:, :, p : p + h, p : p + w]


class MaxPool(Pool):
    """The largest number of each window; what is padded never is. Arguments as of `Pool`.

    Convention: of equal numbers the first, row by row, takes the whole gradient, as in PyTorch.
    """

    fill = -np.inf

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__(kernel, stride, padding)
        self._winner: IntArray | None = None

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, C, H', W').

        Raises:
            ValueError: `x` is no float array of four dimensions, or smaller than a window.
        """
        windows = self._windows(x)
        self._winner = windows.argmax(axis=-1)[..., None]
        return np.take_along_axis(windows, self._winner, axis=-1)[..., 0]

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, C, H', W') to ∂L/∂x (B, C, H, W): each goes to its window's winner.

        Raises:
            ValueError: `dout` has another shape or dtype than the output.
            RuntimeError: `forward` has not run.
        """
        self._check_dout(dout)
        is_winner = after_forward(self._winner) == np.arange(self.kernel**2)
        return self._scatter(dout[..., None] * is_winner)  # ∂ max(x)/∂x_j = 1(j is the winner)


class AvgPool(Pool):
    """The mean of each window, padded zeros included, as in PyTorch. Arguments as of `Pool`."""

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, C, H', W').

        Raises:
            ValueError: `x` is no float array of four dimensions, or smaller than a window.
        """
        return self._windows(x).mean(axis=-1)

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, C, H', W') to ∂L/∂x (B, C, H, W): each is shared by its window.

        Raises:
            ValueError: `dout` has another shape or dtype than the output.
            RuntimeError: `forward` has not run.
        """
        self._check_dout(dout)
        share = dout[..., None] / self.kernel**2  # ∂ mean(x)/∂x_j = 1/kernel²
        return self._scatter(np.broadcast_to(share, (*dout.shape, self.kernel**2)))
