"""Weight normalisation: a linear layer that learns the length and the direction of its weights.

Source: Salimans and Kingma, "Weight Normalization: A Simple Reparameterization to Accelerate
Training of Deep Neural Networks", https://arxiv.org/abs/1602.07868.
"""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.checks import Array, after_forward, check_array
from cifar_lab.numpy_reference.initial import Rng, initial_weights
from cifar_lab.numpy_reference.layer import Layer


class WeightNormLinear(Layer):
    """`y = x Wᵀ + b` with `W = g v/‖v‖`, one norm for each row of v, that is for each unit.

    Parameters `g` (N, 1), `v` (N, M) and `bias` (N,), as in
    `torch.nn.utils.parametrizations.weight_norm`. `v` starts as `Linear`'s weight does and `g` at
    its norms, so that the layer starts as the linear layer would.

    Args:
        in_features: M, at least 1.
        out_features: N, at least 1.
        std: of the first weights, above 0, or None for PyTorch's default.
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
        start = initial_weights((out_features, in_features), std=std, rng=rng, dtype=dtype)
        v = start["weight"]
        g = np.linalg.norm(v, axis=1, keepdims=True)
        self.params = {"g": g, "v": v, "bias": start["bias"]}
        self._saved: tuple[Array, Array, Array] | None = None

    def forward(self, x: Array) -> Array:
        """Map x (B, M) to (B, N).

        Raises:
            ValueError: `x` has another shape or dtype; or a row of `v` is zero, which points in no
                direction.
        """
        g, v, bias = self.params["g"], self.params["v"], self.params["bias"]
        check_array("WeightNormLinear: x", x, ("B", v.shape[1]), dtype=v.dtype)
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        if not norm.all():
            units = np.flatnonzero(norm == 0).tolist()
            raise ValueError(f"WeightNormLinear: v is zero for units {units}; it has no direction")
        direction = v / norm
        self._saved = x, direction, norm
        return x @ (g * direction).T + bias

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, N) to ∂L/∂x (B, M).

        Raises:
            ValueError: `dout` has another shape or dtype than the output.
            RuntimeError: `forward` has not run.
        """
        x, direction, norm = after_forward(self._saved)
        g = self.params["g"]
        check_array("WeightNormLinear: dout", dout, (len(x), len(g)), dtype=x.dtype)
        dweight = dout.T @ x  # as in the linear layer
        dg = (dweight * direction).sum(axis=1, keepdims=True)  # dW · v/‖v‖
        # g/‖v‖ (dW − dg v/‖v‖): the part of dW along v is taken away, for v's length is no matter.
        self.grads["v"] = g / norm * (dweight - dg * direction)
        self.grads["g"] = dg
        self.grads["bias"] = dout.sum(axis=0)
        return dout @ (g * direction)
