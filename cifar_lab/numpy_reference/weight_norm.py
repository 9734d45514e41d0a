"""Weight normalization: a linear layer that learns the lengths and directions of its weights.

Source: Salimans and Kingma, "Weight Normalization: A Simple Reparameterization to Accelerate
Training of Deep Neural Networks", https://arxiv.org/abs/1602.07868.
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


class WeightNormLinear(Layer):
    """``y = x Wᵀ + b`` with ``W = g v/‖v‖``, where ‖v‖ is the norm of each row, one per unit.

    The parameters are ``g`` (N, 1), ``v`` (N, M) and ``bias`` (N,), as in
    ``torch.nn.utils.parametrizations.weight_norm``. ``v`` starts like the weight of ``Linear``, and
    ``g`` at the norms of ``v``, so the layer initially computes the same function as ``Linear``.

    Args:
        in_features: M, at least 1.
        out_features: N, at least 1.
        std: standard deviation of the initial ``v``, above 0, "he", or None for PyTorch's
            default.
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
        start = initial_weights((out_features, in_features), std=std, rng=rng, dtype=dtype)
        v = start["weight"]
        g = np.linalg.norm(v, axis=1, keepdims=True)
        self.params = {"g": g, "v": v, "bias": start["bias"]}

    def forward(self, x: Array) -> Array:
        """Map x (B, M) to (B, N).

        Raises:
            ValueError: a row of ``v`` is zero, and so has no direction.
        """
        g, v, bias = self.params["g"], self.params["v"], self.params["bias"]
        check_array("WeightNormLinear: x", x, ("B", v.shape[1]), dtype=v.dtype)
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        if not norm.all():
            units = np.flatnonzero(norm == 0).tolist()
            raise ValueError(f"WeightNormLinear: v is zero for units {units}; it has no direction")
        direction = v / norm
        return self._save_for_backward(x @ (g * direction).T + bias, (x, direction, norm))

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, N) to ∂L/∂x (B, M)."""
        (x, direction, norm), g = self._saved_for(dout), self.params["g"]
        dweight = dout.T @ x  # as in the linear layer
        dg = (dweight * direction).sum(axis=1, keepdims=True)  # dW · v/‖v‖
        # g/‖v‖ (dW − dg v/‖v‖): the part of dW along v is subtracted, because the length of v does
        # not change W.
        self.grads["v"] = g / norm * (dweight - dg * direction)
        self.grads["g"] = dg
        self.grads["bias"] = dout.sum(axis=0)
        return dout @ (g * direction)
