"""Batch normalization of rows (B, C) or images (B, C, H, W), with a mean and variance per channel.

An image counts as H·W samples of its C channels. So (B, C, H, W) becomes a matrix of N = B·H·W
rows, and the formulas for (B, C) hold for it with N in place of B.

Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", https://arxiv.org/abs/1502.03167.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.layer import Array, Layer, check_array, float_dtype


class BatchNorm(Layer):
    """``y = γ x̂ + β`` with ``x̂ = (x − μ) / √(σ² + ε)``.

    Training takes μ and σ² from the batch, with σ² divided by N (biased). They also update the
    running statistics, ``ρ ← (1 − λ) ρ + λ ρ_batch``, where σ² is divided by N − 1. Evaluation
    normalizes with the running statistics, which are treated as constants.

    The conventions are those of ``torch.nn.BatchNorm1d``, with one difference: a channel with a
    single value (B = 1, no pixels) is not an error. Its x̂ and its gradient are 0, the output is β,
    and the running variance, which is undefined for N − 1 = 0, does not change. A constant channel
    also has x̂ = 0 exactly.

    The parameters are ``gamma`` (C,), which starts at 1, and ``beta`` (C,), which starts at 0.
    ``running_mean`` and ``running_var``, both (C,), start at 0 and 1.

    Args:
        n_channels: C, at least 1.
        eps: ε, above 0, which is added under the square root.
        momentum: λ, from 0 to 1.
        dtype: float32 or float64.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        dtype = float_dtype(dtype)
        if n_channels < 1 or not eps > 0 or not 0 <= momentum <= 1:
            raise ValueError(
                f"n_channels is {n_channels}, eps {eps}, momentum {momentum}; "
                "expected n_channels of at least 1, eps above 0, momentum from 0 to 1"
            )
        self.eps, self.momentum = eps, momentum
        zeros, ones = np.zeros(n_channels, dtype), np.ones(n_channels, dtype)
        self.params = {"gamma": ones, "beta": zeros}
        self.running_mean, self.running_var = zeros.copy(), ones.copy()

    def forward(self, x: Array) -> Array:
        """Map x (B, C) or (B, C, H, W), with at least one sample, to the same shape."""
        gamma, beta = self.params["gamma"], self.params["beta"]
        n_channels = len(gamma)
        shapes = ("B", n_channels), ("B", n_channels, "H", "W")
        check_array("BatchNorm: x", x, *shapes, dtype=gamma.dtype)
        if x.size == 0:
            raise ValueError(f"BatchNorm: x has shape {x.shape}; expected at least one sample")
        rows, restore = _as_rows(x)
        if self.training:
            centred, var = self._batch(rows)
        else:
            centred, var = rows - self.running_mean, self.running_var
        inv_std = 1 / np.sqrt(var + self.eps)
        x_hat = centred * inv_std
        saved = x_hat, inv_std, self.training
        return self._save_for_backward(restore(gamma * x_hat + beta), saved)

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y to ∂L/∂x, both of the shape of the input."""
        x_hat, inv_std, batch_statistics = self._saved_for(dout)
        dout, restore = _as_rows(dout)
        self.grads["gamma"] = (dout * x_hat).sum(axis=0)  # Σ_s dy_s x̂_s
        self.grads["beta"] = dout.sum(axis=0)  # Σ_s dy_s
        dx_hat = dout * self.params["gamma"]
        if not batch_statistics:
            return restore(dx_hat * inv_std)
        # (σ² + ε)^-½ / N · (N dx̂ − Σ_t dx̂_t − x̂ Σ_t dx̂_t x̂_t): the last two terms are paths
        # through the mean and the variance. Each sum divided by N is a mean.
        through_mean = dx_hat.mean(axis=0)
        through_var = x_hat * (dx_hat * x_hat).mean(axis=0)
        return restore(inv_std * (dx_hat - through_mean - through_var))

    def _batch(self, rows: Array) -> tuple[Array, Array]:
        """Return x − μ and σ² of the batch, and update the running statistics."""
        # The first row is subtracted first, because a large common offset would cost precision. It
        # also makes the mean of a constant channel exact.
        shifted = rows - rows[:1]
        mean = shifted.mean(axis=0)
        centred = shifted - mean
        var = (centred * centred).mean(axis=0)
        n, m = len(rows), self.momentum
        self.running_mean = (1 - m) * self.running_mean + m * (rows[0] + mean)
        if n > 1:
            self.running_var = (1 - m) * self.running_var + m * var * (n / (n - 1))
        return centred, var


def _as_rows(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Return x as (N, C), and the function that reshapes such a matrix to the shape of x."""
    if x.ndim == 2:
        return x, lambda rows: rows
    b, c, h, w = x.shape
    rows = x.transpose(0, 2, 3, 1).reshape(-1, c)
    return rows, lambda rows: rows.reshape(b, h, w, c).transpose(0, 3, 1, 2)
