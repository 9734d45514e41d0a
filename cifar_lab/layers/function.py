"""Batch normalization as a ``torch.autograd.Function``: the backward pass is written by hand.

``formula.py`` has the formulas. This file says what is kept between the two passes (``x`` and a
few numbers a channel: ``xhat`` is made anew, which saves a tensor as large as the input) and how
PyTorch's transforms see the operation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .checks import check_channels, check_input
from .formula import (
    batch_norm_backward,
    batch_norm_tangent,
    batch_statistics,
    beta_gradient,
    gamma_gradient,
    normalise,
)
from .pieces import as_channels, result_buffer


class BatchNormFunction(torch.autograd.Function):
    """Normalise each channel with the statistics of the batch, then scale and shift it.

    ``BatchNormFunction.apply(x, gamma, beta, eps, sync)`` returns ``(y, mean, var, count)``; see
    ``forward``. Works under autocast, ``torch.compile`` and ``torch.func`` (``grad``, ``vmap``,
    ``jvp``) and can be differentiated twice. The statistics that it returns carry no gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        gamma: Tensor | None = None,
        beta: Tensor | None = None,
        eps: float = 1e-5,
        sync: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``y = gamma * (x - mean) / sqrt(var + eps) + beta`` with the batch's mean and variance.

        Args:
            x: (B, C), (B, C, L) or (B, C, H, W), floating point.
            gamma: (C,), the scale; None for 1.
            beta: (C,), the shift; None for 0.
            eps: added to the variance, under the root; keeps a constant channel finite.
            sync: take the statistics over the batches of all ranks, and ``dx`` with them.

        Returns:
            ``y`` with the shape, dtype and memory format of ``x``; the mean (C,) and the **biased**
            variance (C,) that normalised it; the number of values of a channel (). These three are
            float32, or float64 for a float64 input, also where ``x`` has half precision.

        Raises:
            ValueError: if ``x`` is not (B, C, ...) of floats with C above 0, or the shapes of
                ``x``, ``gamma`` and ``beta`` do not fit each other.
        """
        check_input(x)
        check_channels(x, gamma=gamma, beta=beta)
        buffer = result_buffer(x)
        mean, var, count = batch_statistics(x, sync, buffer)
        y = normalise(x, mean, var, gamma, beta, eps, buffer)
        return y, mean.view(-1), var.view(-1), count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """Keep what the backward pass needs, and nothing if only ``beta`` wants a gradient."""
        x, gamma, _beta, ctx.eps, ctx.sync = inputs
        _y, mean, var, count = output
        ctx.mark_non_differentiable(mean, var, count)
        ctx.set_materialize_grads(False)
        if any(ctx.needs_input_grad[:2]):
            ctx.save_for_backward(x, gamma, mean, var, count)
        ctx.save_for_forward(x, gamma, mean, var, count)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of ``x``, ``gamma`` and ``beta`` that are asked for, else None."""
        dy = grad_outputs[0]
        need_dx, need_dgamma, need_dbeta = ctx.needs_input_grad[:3]
        dx = dgamma = dbeta = None
        if dy is None:
            pass
        elif need_dx:
            dx, dgamma, dbeta = batch_norm_backward(dy, *_recalled(ctx))
        else:
            dgamma = gamma_gradient(dy, *_recalled(ctx)[:3], ctx.eps) if need_dgamma else None
            dbeta = beta_gradient(dy) if need_dbeta else None
        dgamma = dgamma.view(-1) if dgamma is not None and need_dgamma else None
        dbeta = dbeta.view(-1) if dbeta is not None and need_dbeta else None
        return dx, dgamma, dbeta, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The tangent of ``y``, given those of ``x``, ``gamma`` and ``beta``; None for the rest."""
        x_tangent, gamma_tangent, beta_tangent, *_ = tangents
        y_tangent = batch_norm_tangent(x_tangent, gamma_tangent, beta_tangent, *_recalled(ctx))
        return y_tangent, None, None, None


class _CompiledBatchNorm(BatchNormFunction):
    """The same for ``torch.compile``, which leaves functions with a ``jvp`` uncompiled."""

    jvp = torch.autograd.Function.jvp


class _EagerBatchNorm(torch.autograd.Function):
    """The same where no transform of ``torch.func`` looks on.

    With ``setup_context`` apart, ``apply`` binds the arguments to forward's signature at each call:
    50 to 90 microseconds, a fifth of the time of a small layer.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both halves of ``BatchNormFunction`` at once."""
        output = BatchNormFunction.forward(*inputs)
        BatchNormFunction.setup_context(ctx, inputs, output)
        return output

    backward = BatchNormFunction.backward
    jvp = BatchNormFunction.jvp


def batch_norm_manual(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    eps: float = 1e-5,
    sync: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``BatchNormFunction.apply``, in the variant that suits the moment: the way to call it."""
    if torch.compiler.is_compiling():
        return _CompiledBatchNorm.apply(x, gamma, beta, eps, sync)
    if torch._C._are_functorch_transforms_active():
        return BatchNormFunction.apply(x, gamma, beta, eps, sync)
    return _EagerBatchNorm.apply(x, gamma, beta, eps, sync)


def _recalled(ctx: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, float, bool]:
    """What the forward pass kept: x, mean, var, count, gamma, eps, sync.

    Whoever differentiates a gradient once more must see that the statistics depend on ``x``: for
    them they are computed anew.
    """
    x, gamma, mean, var, count = ctx.saved_tensors
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        mean, var, count = batch_statistics(x, ctx.sync)
    else:
        mean, var = as_channels(mean, x), as_channels(var, x)
    return x, mean, var, count, gamma, ctx.eps, ctx.sync
