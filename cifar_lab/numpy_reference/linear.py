"""The linear layer ``y = x Wᵀ + b``. Shapes: x (B, M), W (N, M), b (N,), y (B, N)."""

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


class Linear(Layer):
    """``y = x Wᵀ + b`` with the parameters ``weight`` (N, M) and ``bias`` (N,).

    By default they are initialized as in the report: the weight from N(0, 0.0001²), the bias to 0.

    Args:
        in_features: M, at least 1.
        out_features: N, at least 1.
        std: standard deviation of the initial weights, at least 0, "he", or None for PyTorch's
            default; see ``cifar_lab.numpy_reference.layer.Std``.
        rng: NumPy generator, seed, or None for a new generator.
        dtype: dtype of the parameters and the input, float32 or float64.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        std: Std = 1e-4,
        rng: Rng = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        self.params = initial_weights((out_features, in_features), std=std, rng=rng, dtype=dtype)

    def forward(self, x: Array) -> Array:
        """Map x (B, M) to (B, N)."""
        weight, bias = self.params["weight"], self.params["bias"]
        check_array("Linear: x", x, ("B", weight.shape[1]), dtype=weight.dtype)
        y = x @ weight.T + bias  # y_si = Σ_m x_sm W_im + b_i
        return self._save_for_backward(y, x)

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, N) to ∂L/∂x (B, M)."""
        x, weight = self._saved_for(dout), self.params["weight"]
        # ∂y_si/∂W_jk = δ_ij x_sk, so ∂L/∂W_jk = Σ_s dout_sj x_sk. The 3D Jacobian is never built.
        self.grads["weight"] = dout.T @ x
        self.grads["bias"] = dout.sum(axis=0)  # ∂y_si/∂b_j = δ_ij
        return dout @ weight  # ∂y_si/∂x_sk = W_ik
