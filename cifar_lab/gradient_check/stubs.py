"""The layers of the course, for you to write: where it says NotImplementedError, code is missing.

B is the batch size, C the number of features or classes, and dY the gradient of the loss with
respect to the output Y. This command says what is right, what is wrong, and what is not done yet:

    cifar-lab check-gradients --file modules.py

Add --layer linear, for example, to check one layer alone.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class LinearModule:
    """Y = X Wᵀ + b, for X (B, in), W (out, in), b (out,) and Y (B, out)."""

    def __init__(self, in_features: int, out_features: int, input_layer: bool = False) -> None:
        self.params: dict[str, np.ndarray] = {}
        self.grads: dict[str, np.ndarray] = {}
        # Fill both with arrays "weight" (out, in) and "bias" (out,).
        raise NotImplementedError

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return Y for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Set the gradients of the parameters, and return the one of X."""
        # self.grads["weight"] = dW = ?
        # self.grads["bias"] = db = ?
        # return dX = ?
        raise NotImplementedError


class ReLUModule:
    """Y = max(0, X), element by element, for an array of any shape."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return Y for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dX = ?"""
        raise NotImplementedError


class LeakyReLUModule:
    """Y = X where X > 0, and neg_slope X elsewhere."""

    def __init__(self, neg_slope: float) -> None:
        self.neg_slope = neg_slope

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return Y for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dX = ?"""
        raise NotImplementedError


class ELUModule:
    """Y = X where X > 0, and alpha (exp(X) − 1) elsewhere."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return Y for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dX = ?"""
        raise NotImplementedError


class SoftMaxModule:
    """p_i = exp(x_i − m) / Σ_k exp(x_k − m), where m is the largest number of the row."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities (B, C) for logits X (B, C), and keep what backward needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dX = ? for the gradient dP of the probabilities."""
        raise NotImplementedError


class CrossEntropyModule:
    """L = −1/B Σ_s Σ_j t_sj log p_sj, for probabilities P (B, C).

    The targets y are class indices (B,), or one-hot rows T (B, C) in the earlier editions of the
    course. Either is fine; write one of them.
    """

    def forward(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the loss of the probabilities x under the targets y."""
        raise NotImplementedError

    def backward(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return dP = ? There may have been no forward pass."""
        raise NotImplementedError


class CustomBatchNormAutograd(nn.Module):
    """y = γ x̂ + β with x̂ = (x − μ) / √(σ² + ε), for x (B, C). Autograd computes the gradients.

    μ and σ² are those of each feature over the batch; σ² is divided by B.
    """

    def __init__(self, n_neurons: int, eps: float = 1e-5) -> None:
        super().__init__()
        # self.gamma (C,) starts at 1 and self.beta (C,) at 0; each is an nn.Parameter.
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return y for x (B, C)."""
        raise NotImplementedError


class CustomBatchNormManualFunction(torch.autograd.Function):
    """Batch normalization with a backward pass by hand; autograd computes nothing here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
        """Return y for x (B, C), and keep tensors by ``ctx.save_for_backward(...)``."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return dx = ?, dγ = ?, dβ = ?, and None for eps."""
        # (dy,) = grad_outputs
        raise NotImplementedError


class CustomBatchNormManualModule(nn.Module):
    """Batch normalization by ``CustomBatchNormManualFunction.apply(...)``."""

    def __init__(self, n_neurons: int, eps: float = 1e-5) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return y for x (B, C)."""
        raise NotImplementedError
