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
    """«output», for X (B, in), W (out, in), b (out,) and Y (B, out)."""

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
        # self.grads["weight"]: «weight»
        # self.grads["bias"]: «bias»
        # return «x»
        raise NotImplementedError


class ReLUModule:
    """«output», element by element, for an array of any shape."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return Y for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return the gradient of X."""
        # return «x»
        raise NotImplementedError


class LeakyReLUModule:
    """«output», where a is ``neg_slope``, element by element."""

    def __init__(self, neg_slope: float) -> None:
        self.neg_slope = neg_slope

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return Y for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return the gradient of X."""
        # return «x»
        raise NotImplementedError


class ELUModule:
    """«output», element by element."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return Y for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return the gradient of X."""
        # return «x»
        raise NotImplementedError


class SoftMaxModule:
    """Probabilities (B, C) of logits X (B, C).

    «output».
    """

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the probabilities for X, and keep what the backward pass needs."""
        raise NotImplementedError

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return the gradient of X, for the gradient dP of the probabilities."""
        # return «x»
        raise NotImplementedError


class CrossEntropyModule:
    """«output», for probabilities P (B, C).

    The targets y are class indices (B,), or one-hot rows T (B, C) in the earlier editions of the
    course. Either is fine; write one of them.
    """

    def forward(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the loss of the probabilities x under the targets y."""
        raise NotImplementedError

    def backward(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the gradient of the probabilities x; there may have been no forward pass."""
        # return «x»
        raise NotImplementedError


class CustomBatchNormAutograd(nn.Module):
    """Batch normalization of x (B, C), whose gradients autograd computes.

    «output».
    The mean μ and the variance σ² are those of each feature over the batch.
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
        """Return the gradients of x, gamma and beta, and None for eps."""
        # dy, = grad_outputs
        # «gamma»
        # «beta»
        # «x»
        raise NotImplementedError


class CustomBatchNormManualModule(nn.Module):
    """The module of CustomBatchNormManualFunction."""

    def __init__(self, n_neurons: int, eps: float = 1e-5) -> None:
        super().__init__()
        # self.gamma and self.beta, as in CustomBatchNormAutograd.
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return y for x (B, C), by ``CustomBatchNormManualFunction.apply(...)``."""
        raise NotImplementedError
