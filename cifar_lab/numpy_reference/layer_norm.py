"""Layer normalization of rows (B, C): each sample has a mean and a variance over its C features.

It is batch normalization with the axes exchanged, except that γ and β belong to a feature in both.
Samples do not interact, so training and evaluation are the same.

Source: Ba, Kiros and Hinton, "Layer Normalization", https://arxiv.org/abs/1607.06450.
"""

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.layer import Array, Layer, check_array, float_dtype


class LayerNorm(Layer):
    """``y = γ x̂ + β`` with ``x̂ = (x − μ) / √(σ² + ε)``, where μ and σ² are those of a sample.

    The conventions are those of ``torch.nn.LayerNorm``: σ² is divided by C (biased). A sample with
    equal features, such as one with C = 1, has x̂ = 0 and a gradient of 0.

    The parameters are ``gamma`` (C,), which starts at 1, and ``beta`` (C,), which starts at 0.

    Args:
        n_features: C, at least 1.
        eps: ε, above 0, which is added under the square root.
        dtype: float32 or float64.
    """

    def __init__(
        self, n_features: int, *, eps: float = 1e-5, dtype: npt.DTypeLike = np.float64
    ) -> None:
        super().__init__()
        dtype = float_dtype(dtype)
        if n_features < 1 or not eps > 0:
            raise ValueError(
                f"n_features is {n_features}, eps {eps}; "
                "expected n_features of at least 1 and eps above 0"
            )
        self.eps = eps
        self.params = {"gamma": np.ones(n_features, dtype), "beta": np.zeros(n_features, dtype)}

    def forward(self, x: Array) -> Array:
        """Map x (B, C) to (B, C)."""
        gamma, beta = self.params["gamma"], self.params["beta"]
        check_array("LayerNorm: x", x, ("B", len(gamma)), dtype=gamma.dtype)
        # A large common offset would cost precision; now equal features have a mean of exactly 0.
        shifted = x - x[:, :1]
        centred = shifted - shifted.mean(axis=1, keepdims=True)
        var = (centred * centred).mean(axis=1, keepdims=True)
        inv_std = 1 / np.sqrt(var + self.eps)
        x_hat = centred * inv_std
        return self._save_for_backward(gamma * x_hat + beta, (x_hat, inv_std))

    def backward(self, dout: Array) -> Array:
        """Map ∂L/∂y (B, C) to ∂L/∂x (B, C)."""
        x_hat, inv_std = self._saved_for(dout)
        self.grads["gamma"] = (dout * x_hat).sum(axis=0)  # Σ_s dy_sj x̂_sj
        self.grads["beta"] = dout.sum(axis=0)  # Σ_s dy_sj
        dx_hat = dout * self.params["gamma"]
        # (σ² + ε)^-½ / C · (C dx̂ − Σ_k dx̂_k − x̂ Σ_k dx̂_k x̂_k), where the sums run over the
        # features of a sample.
        through_mean = dx_hat.mean(axis=1, keepdims=True)
        through_var = x_hat * (dx_hat * x_hat).mean(axis=1, keepdims=True)
        return inv_std * (dx_hat - through_mean - through_var)
