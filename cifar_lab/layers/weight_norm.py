"""A linear layer with weight normalisation that does not write its weight out in training.

``y = x Wᵀ + b`` with ``W = g v/‖v‖``: a length and a direction for each unit. The scale of a unit,
``s = g/‖v‖``, can as well multiply its output, which is far smaller than its weights. Sums run over
the batch:

    z = x vᵀ                  ds = Σ dy z                dz = s dy
    y = s z + b               dg = ds/‖v‖                dx = dz v
                              db = Σ dy                  dv = dzᵀ x - (s ds/‖v‖²) v

So v is read, and nothing as large as v is written but dv, and under autocast v in its dtype.
docs/performance.md says what that gains, docs/derivations.md derives the formulas.

Source: Salimans and Kingma, "Weight Normalization: A Simple Reparameterization to Accelerate
Training of Deep Neural Networks", https://arxiv.org/abs/1602.07868.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .onednn import linear
from .tracing import is_traced


class WeightNormFunction(torch.autograd.Function):
    """``WeightNormFunction.apply(x, g, v, bias)``; can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Maps x (B, M) to (B, N) of its dtype, with g (N, 1), v (N, M) and bias (N,).

        Those are of one dtype, which x has too or which is finer; the products are of x's.
        """
        z, v_cast, norm, scale = _scaled(x, g, v)
        ctx.save_for_backward(x, g, v, z, v_cast, norm, scale)
        return torch.addcmul(bias, z.to(v.dtype), scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gives the gradients of x (None where it wants none), g, v and bias."""
        x, g, v, z, v_cast, norm, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: what is saved has no history
            z, v_cast, norm, scale = _scaled(x, g, v)
        dy = grad_outputs[0].to(v.dtype)
        dz = (dy * scale).to(x.dtype)
        dscale = (dy * z).sum(0)
        along = dscale * scale / norm**2
        dv = linear(dz.t(), x.t()).to(v.dtype).addcmul_(v, along[:, None], value=-1)
        dx = linear(dz, v_cast.t()) if ctx.needs_input_grad[0] else None
        return dx, (dscale / norm)[:, None], dv, dy.sum(0)


class WeightNormLinear(nn.Linear):
    """``nn.Linear`` under PyTorch's ``weight_norm``: the same parameters and ``state_dict``.

    In training on the CPU it computes as above; under autocast its products are of autocast's
    dtype, as those of ``nn.Linear``. In evaluation, on other devices, and where the compiler or a
    transform of ``torch.func`` wants PyTorch's own operations, it is PyTorch's. A row of ``v`` that
    is all zeros has no direction: its output is not finite, as PyTorch's.

    Args:
        in_features: M, of the input.
        out_features: N, of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        weight_norm(self)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., M) to (..., N)."""
        on_cpu = input.device.type == "cpu"
        if not self.training or not on_cpu or input.dim() != 2 or is_traced():
            return super().forward(input)
        parametrizations: Any = self.parametrizations
        g, v = parametrizations.weight.original0, parametrizations.weight.original1
        if torch.is_autocast_enabled("cpu") and input.dtype != torch.float64:
            input = input.to(torch.get_autocast_dtype("cpu"))
        return WeightNormFunction.apply(input, g, v, self.bias)


def _scaled(x: Tensor, g: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The products x vᵀ (B, N), v (N, M) in x's dtype, norms of its rows (N,), g over them (N,)."""
    norm = torch.linalg.vector_norm(v, dim=1)
    v_cast = v.to(x.dtype)
    return linear(x, v_cast), v_cast, norm, g[:, 0] / norm
