"""A linear layer with weight normalization that does not compute its weight W in training.

``y = x Wᵀ + b`` with ``W = g v/‖v‖``: each unit has a length ``g`` and a direction ``v``. The scale
of a unit, ``s = g/‖v‖``, can multiply its output instead of its many weights. Sums run over the
batch:

    z = x vᵀ                  ds = Σ dy z                dz = s dy
    y = s z + b               dg = ds/‖v‖                dx = dz v
                              db = Σ dy                  dv = dzᵀ x - (s ds/‖v‖²) v

So nothing as large as ``v`` is written except ``dv`` and, under autocast, ``v`` in its dtype.
docs/derivations.md derives the formulas.

Source: Salimans and Kingma, "Weight Normalization: A Simple Reparameterization to Accelerate
Training of Deep Neural Networks", https://arxiv.org/abs/1602.07868.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class WeightNormFunction(torch.autograd.Function):
    """``WeightNormFunction.apply(x, g, v, bias)``, which can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Map x (B, M) to (B, N) of the same dtype, in which matrix products are computed.

        Lengths g (N, 1), directions v (N, M) and bias (N,) have that dtype or a more precise one.
        """
        z, v_cast, norm, scale = _scaled(x, g, v)
        ctx.save_for_backward(x, g, v, z, v_cast, norm, scale)
        return torch.addcmul(bias, z.to(v.dtype), scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x (None if it needs none), g, v and bias."""
        x, g, v, z, v_cast, norm, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative: the saved tensors have no history
            z, v_cast, norm, scale = _scaled(x, g, v)
        dy = grad_outputs[0].to(v.dtype)
        dz = (dy * scale).to(x.dtype)
        dscale = (dy * z).sum(0)
        along = dscale * scale / norm**2
        dv = (dz.t() @ x).to(v.dtype).addcmul_(v, along[:, None], value=-1)
        dx = dz @ v_cast if ctx.needs_input_grad[0] else None
        return dx, (dscale / norm)[:, None], dv, dy.sum(0)


class WeightNormLinear(nn.Linear):
    """``nn.Linear`` under PyTorch's ``weight_norm``, with the same parameters and ``state_dict``.

    In training on the CPU it computes the formulas above, with matrix products in autocast's dtype.
    In evaluation, on other devices, for inputs that are not (B, M) and under ``torch.compile``, it
    is PyTorch's layer. In both cases a row of ``v`` that is all zeros gives a non-finite output.

    Args:
        in_features: M, number of input features.
        out_features: N, number of units.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        weight_norm(self)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``input`` (..., M) to (..., N)."""
        by_hand = self.training and input.device.type == "cpu" and input.dim() == 2
        if not by_hand or torch.compiler.is_compiling():
            return super().forward(input)
        parametrizations: Any = self.parametrizations
        g, v = parametrizations.weight.original0, parametrizations.weight.original1
        if torch.is_autocast_enabled("cpu") and input.dtype != torch.float64:
            input = input.to(torch.get_autocast_dtype("cpu"))
        return WeightNormFunction.apply(input, g, v, self.bias)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the sizes and the state, since PyTorch cannot pickle a parametrized module."""
        return _restored, (self.in_features, self.out_features, self.state_dict(), self.training)


def _restored(fan_in: int, units: int, state: dict[str, Tensor], training: bool) -> nn.Module:
    with torch.device("meta"):  # draws no random numbers
        layer = WeightNormLinear(fan_in, units)
    layer.load_state_dict(state, assign=True)
    return layer.train(training)


def _scaled(x: Tensor, g: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x vᵀ (B, N), v in the dtype of x, the norms (N,) of its rows, and g/‖v‖ (N,)."""
    norm = torch.linalg.vector_norm(v, dim=1)
    v_cast = v.to(x.dtype)
    return F.linear(x, v_cast), v_cast, norm, g[:, 0] / norm
