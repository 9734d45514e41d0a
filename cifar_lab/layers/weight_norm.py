"""A linear layer with weight normalisation that does not write its weight out in training.

``y = x Wᵀ + b`` with ``W = g v/‖v‖``: a length and a direction for each unit. The scale of a unit,
``s = g/‖v‖``, can as well multiply its output, which is far smaller than its weights. Sums run over
the batch:

    z = x vᵀ                  ds = Σ dy z                dz = s dy
    y = s z + b               dg = ds/‖v‖                dx = dz v
                              db = Σ dy                  dv = dzᵀ x - (s ds/‖v‖²) v

So v is read, and nothing as large as v is written but dv. docs/performance.md says what that gains,
docs/derivations.md derives the formulas.

Source: Salimans and Kingma, "Weight Normalization: A Simple Reparameterization to Accelerate
Training of Deep Neural Networks", https://arxiv.org/abs/1602.07868.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class WeightNormFunction(torch.autograd.Function):
    """``WeightNormFunction.apply(x, g, v, bias)``; can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Maps x (B, M) to (B, N), with g (N, 1), v (N, M) and bias (N,), all of one dtype."""
        z, norm, scale = _scaled(x, g, v)
        ctx.save_for_backward(x, g, v, z, norm, scale)
        return torch.addcmul(bias, z, scale)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gives the gradients of x (None where it wants none), g, v and bias."""
        (dy,) = grad_outputs
        x, g, v, z, norm, scale = ctx.saved_tensors
        if (
            torch.is_grad_enabled()
        ):  # to be differentiated again: z, norm and scale depend on x, g, v
            z, norm, scale = _scaled(x, g, v)
        dz = dy * scale
        dscale = (dy * z).sum(0)
        along = dscale * scale / norm**2
        dv = (v * -along[:, None]).addmm_(dz.t(), x)
        dx = dz @ v if ctx.needs_input_grad[0] else None
        return dx, (dscale / norm)[:, None], dv, dy.sum(0)


class WeightNormLinear(nn.Linear):
    """``nn.Linear`` under PyTorch's ``weight_norm``: the same parameters and ``state_dict``.

    In training it computes as above. In evaluation, and where autocast, the compiler or a transform
    of ``torch.func`` wants PyTorch's own operations, it is PyTorch's.

    Args:
        in_features: M, of the input.
        out_features: N, of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        weight_norm(self)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (..., M) to (..., N)."""
        if not self.training or input.dim() != 2 or _others_look_on(input):
            return super().forward(input)
        parametrizations: Any = self.parametrizations
        g, v = parametrizations.weight.original0, parametrizations.weight.original1
        return WeightNormFunction.apply(input, g, v, self.bias)


def _scaled(x: Tensor, g: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The products x vᵀ (B, N), the norms of v's rows (N,) and g over them (N,)."""
    norm = torch.linalg.vector_norm(v, dim=1)
    return x @ v.t(), norm, g[:, 0] / norm


def _others_look_on(x: Tensor) -> bool:
    return (
        torch.is_autocast_enabled(x.device.type)
        or torch.compiler.is_compiling()
        # PyTorch has no public way to ask; autograd.Function itself asks this.
        or torch._C._are_functorch_transforms_active()
    )
