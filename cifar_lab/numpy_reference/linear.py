"""The linear layer: a row of the output is W x + b. Shapes: x (B, M), W (N, M), b (N,)."""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.checks import Array, after_forward, check_array
from cifar_lab.numpy_reference.initial import Rng, initial_weights
from cifar_lab.numpy_reference.layer import Layer


class Linear(Layer):
    """`y = x Wᵀ + b`, the weight stored as (out_features, in_features).

    Parameters `weight` (N, M) and `bias` (N,). By default they start as in the report, the weight
    from N(0, 0.0001²) and the bias at 0; `std=None` gives PyTorch's default (see `initial.py`).

    Args:
        in_features: M, at least 1.
        out_features: N, at least 1.
        std: of the first weights, at least 0, or None.
        rng: a NumPy generator, a seed, or None for a new one.
        dtype: of the parameters, float32 or float64; inputs must have the same.

    Raises:
        ValueError: a wrong number of features, `std` or dtype.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        std: float | None = 1e-4,
        rng: Rng = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        super().__init__()
        self.params = initial_weights((out_features, in_features), std=std, rng=rng, dtype=dtype)
        self._x: Array | None = None

    def forward(self, x: Array) -> Array:
        """Map x (B, M) to (B, N).

        Raises:
            ValueError: `x` has another number of features, or another dtype than the weight.
        """
        weight, bias = self.params["weight"], self.params["bias"]
        check_array("Linear: x", x, ("B", weight.shape[1]), dtype=weight.dtype)
        self._x = x
        return x @ weight.T + bias  # y_si = Σ_m x_sm W_im + b_i

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, N) to ∂L/∂x (B, M).

        Raises:
            ValueError: `dout` has another shape or dtype than the output had.
            RuntimeError: `forward` has not run.
        """
        x, weight = after_forward(self._x), self.params["weight"]
        check_array("Linear: dout", dout, (len(x), len(weight)), dtype=weight.dtype)
        # ∂y_si/∂W_jk = δ_ij x_sk, so ∂L/∂W_jk = Σ_s dout_sj x_sk; the 3D Jacobian is never built.
        self.grads["weight"] = dout.T @ x
        self.grads["bias"] = dout.sum(axis=0)  # ∂y_si/∂b_j = δ_ij
        return dout @ weight  # ∂y_si/∂x_sk = W_ik
