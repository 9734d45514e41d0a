"""A linear layer that multiplies by oneDNN in float32, on a CPU where that is faster.

    y = x Wᵀ + b              dx = dy W          dW = dyᵀ x          db = Σ dy

The sum runs over the batch. onednn.py says where oneDNN is faster, docs/performance.md by how
much; elsewhere the layer is ``nn.Linear``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .onednn import linear, onednn_is_faster
from .tracing import is_traced


class LinearFunction(torch.autograd.Function):
    """``LinearFunction.apply(x, weight, bias)``; can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Maps x (B, M) to (B, N), with weight (N, M) and bias (N,) or None, of one dtype."""
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight and bias that are asked for, else None."""
        x, weight = ctx.saved_tensors
        dy = grad_outputs[0]
        need_dx, need_dweight, need_dbias = ctx.needs_input_grad
        dx = linear(dy, weight.t()) if need_dx else None
        dweight = linear(dy.t(), x.t()) if need_dweight else None
        return dx, dweight, dy.sum(0) if need_dbias else None


class Linear(nn.Linear):
    """``nn.Linear``, with the same parameters, initialisation and ``state_dict``.

    In training in float32 it computes as above, where ``onednn_is_faster()``. Under autocast, in
    evaluation, on other devices, and where the compiler or a transform of ``torch.func`` wants
    PyTorch's own operations, it is PyTorch's.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., M) to (..., N)."""
        if self.training and not is_traced() and self._takes(input):
            return LinearFunction.apply(input, self.weight, self.bias)
        return super().forward(input)

    def _takes(self, x: Tensor) -> bool:
        in_float32 = x.dtype == self.weight.dtype == torch.float32
        on_cpu = x.device.type == self.weight.device.type == "cpu"
        fits = x.dim() == 2 and len(x) > 0 and x.shape[1] == self.in_features
        exact = in_float32 and not torch.is_autocast_enabled("cpu")
        return exact and on_cpu and fits and onednn_is_faster()
