"""Layers that make images smaller: pooling, (B, C, H, W) to (B, C, H', W'), and flattening.

Pooling takes the maximum or the mean of windows of an image. H' is
⌊(H + 2·padding − kernel) / stride⌋ + 1, and likewise W'; both must be at least 1. Where windows
overlap, a pixel receives a gradient from each of them.
"""

from math import prod

import numpy as np

from cifar_lab.numpy_reference.layer import Array, Layer, check_array


class Pool(Layer):
    """Base class of the pooling layers, which extracts windows and sums their gradients.

    Args:
        kernel: side of a window, at least 1.
        stride: distance from one window to the next, at least 1.
        padding: number of pixels added on each side, at most half of ``kernel``, so that every
            window overlaps the image.
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

    def _windows(self, x: Array) -> Array:
        """Return copies (B, C, H', W', kernel²) of the windows of x, pixels row by row."""
        name = type(self).__name__
        check_array(f"{name}: x", x, ("B", "C", "H", "W"))
        k, s, p = self.kernel, self.stride, self.padding
        if min(x.shape[2:]) + 2 * p < k:
            raise ValueError(f"{name}: x has shape {x.shape}; expected H and W of {k - 2 * p} up")
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=self.fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
        windows = windows[:, :, ::s, ::s]
        return windows.reshape(*windows.shape[:4], k * k)

    def _scatter(self, dwindows: Array, shape: tuple[int, ...]) -> Array:
        """Return (B, C, H, W), the sums of (B, C, H', W', kernel²) where the windows overlap."""
        (b, c, h, w), (_, _, n_rows, n_cols, n_offsets) = shape, dwindows.shape
        s, p = self.stride, self.padding
        dx = np.zeros((b, c, h + 2 * p, w + 2 * p), dwindows.dtype)
        for offset in range(n_offsets):  # the same pixel of every window at once
            i, j = divmod(offset, self.kernel)
            dx[:, :, i : i + s * n_rows : s, j : j + s * n_cols : s] += dwindows[..., offset]
        return dx[:, :, p : p + h, p : p + w]


class MaxPool(Pool):
    """The maximum of each window, padding excluded. The arguments are those of ``Pool``.

    Among equal numbers the first, row by row, receives the whole gradient, as in PyTorch.
    """

    fill = -np.inf

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, C, H', W')."""
        windows = self._windows(x)
        winner = windows.argmax(axis=-1)[..., None]
        y = np.take_along_axis(windows, winner, axis=-1)[..., 0]
        return self._save_for_backward(y, (x.shape, winner))

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, C, H', W') to ∂L/∂x (B, C, H, W): the maximum receives the gradient."""
        shape, winner = self._saved_for(dout)
        is_winner = winner == np.arange(self.kernel**2)  # ∂ max(x)/∂x_j = 1(j is the winner)
        return self._scatter(dout[..., None] * is_winner, shape)


class AvgPool(Pool):
    """The mean of each window, padding included, as in PyTorch; for arguments see ``Pool``."""

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, C, H', W')."""
        return self._save_for_backward(self._windows(x).mean(axis=-1), x.shape)

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, C, H', W') to ∂L/∂x (B, C, H, W): each pixel gets an equal share."""
        shape = self._saved_for(dout)
        share = dout[..., None] / self.kernel**2  # ∂ mean(x)/∂x_j = 1/kernel²
        return self._scatter(np.broadcast_to(share, (*dout.shape, self.kernel**2)), shape)


class Flatten(Layer):
    """Reshape images (B, C, H, W) to rows (B, C·H·W)."""

    def forward(self, x: Array) -> Array:
        """Map x (B, C, H, W) to (B, C·H·W)."""
        check_array("Flatten: x", x, ("B", "C", "H", "W"))
        return self._save_for_backward(x.reshape(len(x), prod(x.shape[1:])), x.shape)

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, C·H·W) to ∂L/∂x (B, C, H, W)."""
        shape = self._saved_for(dout)
        return dout.reshape(shape)
