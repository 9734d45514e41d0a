"""Batch normalization with the backward pass derived by hand.

``x``, ``y`` and their gradients have the shape (B, C), (B, C, L) or (B, C, H, W). Each channel has
a mean, a variance, a ``gamma`` and a ``beta`` of its own, and N values: N = B * H * W for images.
All sums run over the N values of a channel.

Forward pass:

    mean = Σ x / N                         xhat = (x - mean) * inv_std
    var  = Σ (x - mean)² / N               y = gamma * xhat + beta
    inv_std = 1 / sqrt(var + eps)

Backward pass, from the gradient ``dy`` of the loss with respect to ``y``:

    dbeta  = Σ dy
    dgamma = Σ dy * xhat
    dxhat  = gamma * dy
    dx     = inv_std / N * (N * dxhat - Σ dxhat - xhat * Σ (dxhat * xhat))

``docs/derivations.md`` derives these formulas, and ``numpy_reference/batch_norm.py`` computes them
term by term. Here they are multiplied out, because passes over large tensors take most of the time:

    y  = offset + slope * x
    dx = offset + slope * x + dy_slope * dy

Numbers per channel have the shape (1, C, 1, ...) in this file, which broadcasts to ``x``. Only
``gamma``, ``beta`` and the results of public functions have the shape (C,).

Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", 2015, https://arxiv.org/abs/1502.03167. Algorithm 1 is the forward pass.
Section 3 derives the backward pass with dmean and dvar, which are substituted here.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from cifar_lab.errors import UserError

# Half-precision values that are converted at a time: few enough for the cache of a CPU, and enough
# to keep another device busy.
CPU_PIECE, DEVICE_PIECE = 2**17, 2**22
FEWEST_PIECES = 6  # so that the float32 copies of small tensors stay small too


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel, after subtracting a shift.

    The shift is the first value of the channel, at most sqrt(N - 1) standard deviations from the
    mean (Samuelson's inequality). So a channel with mean 1e4 and standard deviation 1 is accurate
    in float32, where Σ x² / N - mean² would lose every digit. In the worst case, an outlier in the
    first place, the relative error of the variance is a few N * 1e-7.
    """
    count = x.numel() // x.shape[1]
    shift = as_channels(x.detach()[0].reshape(x.shape[1], -1)[:, 0], x)
    total, squares = channel_sums(x, shift)
    deviation = total / count
    var = (squares / count - deviation * deviation).clamp(min=0)
    return shift + deviation, var


def normalise(
    x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> Tensor:
    """Return ``y = gamma * xhat + beta``, with the shape and dtype of ``x``."""
    slope = (var + eps).rsqrt()
    if gamma is not None:
        slope = slope * as_channels(gamma, x)
    # Its rounding error is that of an input as large as the mean.
    offset = -mean * slope if beta is None else as_channels(beta, x) - mean * slope
    return channel_map(offset, (slope, x))


class BatchNormFunction(torch.autograd.Function):
    """Normalize each channel with the statistics of the batch, then scale and shift it.

    ``BatchNormFunction.apply(x, gamma, beta, eps)`` works under autocast and can be differentiated
    twice. For ``torch.compile`` and transforms of ``torch.func``, use ``batch_norm_composed``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute ``y = gamma * (x - mean) / sqrt(var + eps) + beta``.

        Args:
            ctx: context that keeps ``x`` and numbers per channel for the backward pass.
            x: input (B, C), (B, C, L) or (B, C, H, W), floating point.
            gamma: scale (C,), or None for 1.
            beta: shift (C,), or None for 0.
            eps: number added to the variance, which keeps the result of a constant channel finite.

        Returns:
            ``y`` with the shape, dtype and memory format of ``x``, and the mean and the **biased**
            variance (C,) of the batch: float32, or float64 for a float64 input, without gradient.

        Raises:
            ValueError: ``x`` is not a floating-point (B, C, ...) with a value in each channel, or
                ``gamma`` or ``beta`` is not (C,).
        """
        check_input(x, gamma, beta)
        mean, var = batch_statistics(x)
        y = normalise(x, mean, var, gamma, beta, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, gamma, mean, var)
        statistics = mean.view(-1), var.view(-1)
        ctx.mark_non_differentiable(*statistics)
        return y, *statistics

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``gamma`` and ``beta`` that are needed, otherwise None."""
        dy = grad_outputs[0]
        need_dx, need_dgamma, need_dbeta, _ = ctx.needs_input_grad
        x, gamma, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative, which must see that they depend on x
            mean, var = batch_statistics(x)
        inv_std = (var + ctx.eps).rsqrt()
        dbeta, covariance = channel_sums(x, mean, dy)
        dgamma = covariance * inv_std
        dx = None
        if need_dx:
            # gamma is constant in a channel, so it leaves the sums of the formula, which becomes
            # dx = dy_slope * dy + share * dbeta + slope * (x - mean).
            dy_slope = inv_std if gamma is None else inv_std * as_channels(gamma, x)
            count = x.numel() // x.shape[1]
            share = dy_slope / -count
            slope = share * inv_std * dgamma
            offset = share * dbeta - slope * mean
            dx = channel_map(offset, (slope, x), (dy_slope, dy))
        dgamma, dbeta = dgamma.view(-1), dbeta.view(-1)
        return dx, dgamma if need_dgamma else None, dbeta if need_dbeta else None, None


def batch_norm_composed(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the forward pass by its definition, and leave the backward pass to autograd.

    Arguments, results and errors are those of ``BatchNormFunction.forward``. Autograd keeps several
    tensors as large as ``x``.
    """
    check_input(x, gamma, beta)
    wide, dims = x.to(working_dtype(x)), [0, *range(2, x.dim())]
    mean = wide.mean(dims, keepdim=True)
    var = ((wide - mean) ** 2).mean(dims, keepdim=True)
    y = (wide - mean) / (var + eps).sqrt()
    if gamma is not None:
        y = y * as_channels(gamma, x)
    if beta is not None:
        y = y + as_channels(beta, x)
    return y.to(x.dtype), mean.detach().view(-1), var.detach().view(-1)


FORMS: dict[str, Any] = {"manual": BatchNormFunction.apply, "composed": batch_norm_composed}
KINDS = (*FORMS, "native")


class _BatchNorm(nn.Module):
    """The common part; ``self`` is ``Any`` since it uses attributes of PyTorch's classes."""

    def __init__(self, *args: Any, form: str = "manual", **kwargs: Any) -> None:
        if form not in FORMS:
            raise ValueError(f"form={form!r}: expected one of {', '.join(FORMS)}")
        super().__init__(*args, **kwargs)
        self.form = form

    def forward(self: Any, input: Tensor) -> Tensor:
        """Normalize ``input``; in training, also update the running statistics."""
        if input.dim() not in self.layouts or input.shape[1] != self.num_features:
            wanted = f"{' or '.join(self.layouts.values())} with C = num_features"
            raise ValueError(f"expected {wanted} = {self.num_features}, got {tuple(input.shape)}")
        if not self.training and self.running_mean is not None:
            # The running statistics are constants, so autograd can derive the backward pass.
            mean, var = as_channels(self.running_mean, input), as_channels(self.running_var, input)
            return normalise(input, mean, var, self.weight, self.bias, self.eps)
        count = input.numel() // self.num_features
        if count < 2:  # one value is normalized to 0 whatever it is
            raise ValueError(f"Expected more than 1 value per channel, got {tuple(input.shape)}")
        # With the compiler of PyTorch 2.11, the Function's gradients would silently be zero.
        form = "composed" if torch.compiler.is_compiling() else self.form
        y, mean, var = FORMS[form](input, self.weight, self.bias, self.eps)
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
            momentum = self.momentum
            if momentum is None:  # the running statistics are the means over all batches so far
                momentum = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
            unbiased_var = var * (count / (count - 1))
            # These carry no gradient, but the compiler of PyTorch 2.11 does not know it.
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(unbiased_var.detach().to(self.running_var.dtype), momentum)
        return y

    def extra_repr(self) -> str:
        """Return PyTorch's description with the form added."""
        return f"{super().extra_repr()}, form={self.form!r}"


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Batch normalization of (B, C) or (B, C, L), which can replace ``nn.BatchNorm1d``.

    Parameters, buffers and ``state_dict`` are those of ``nn.BatchNorm1d``. Training normalizes each
    channel with the mean and the **biased** variance of the batch, and updates the running
    statistics with the mean and the **unbiased** variance:
    ``running = (1 - momentum) * running + momentum * batch``. Evaluation normalizes with the
    running statistics.

    Args:
        *args: arguments of ``nn.BatchNorm1d``, as are ``**kwargs``.
        form: "manual" for the hand-written backward pass, "composed" for autograd's.

    Raises:
        ValueError: ``form`` is neither. ``forward`` raises it for an input of another shape and,
            where it takes the statistics of the batch, for fewer than two values per channel.
    """

    layouts: ClassVar = {2: "(B, C)", 3: "(B, C, L)"}  # by the number of dimensions


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """``BatchNorm1d`` for (B, C, H, W), which can replace ``nn.BatchNorm2d``."""

    layouts: ClassVar = {4: "(B, C, H, W)"}


def batch_norm(num_features: int, dims: Literal[1, 2], kind: str = "manual") -> nn.Module:
    """Return a batch normalization layer.

    Args:
        num_features: C, the number of channels or units.
        dims: 1 for inputs (B, C) and (B, C, L), 2 for (B, C, H, W).
        kind: "manual" (backward pass by hand), "composed" (elementary operations and autograd) or
            "native" (PyTorch's layer). All have the same ``state_dict``.

    Raises:
        UserError: ``kind``, which is the setting ``batchnorm`` of models, is none of these.
    """
    if kind not in KINDS:
        raise UserError(f"batchnorm {kind!r}: expected one of {', '.join(KINDS)}")
    if kind == "native":
        return {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[dims](num_features)
    return {1: BatchNorm1d, 2: BatchNorm2d}[dims](num_features, form=kind)


# The passes over large tensors. Where possible, they allocate nothing as large as the result.


def channel_sums(x: Tensor, centre: Tensor, dy: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return Σ dy and Σ (x - centre) * dy; without ``dy``, x - centre takes its place."""
    dims, totals, products = [0, *range(2, x.dim())], [], []
    for _, work, part, *rest in _pieces(_memory(x), x, *([] if dy is None else [dy])):
        centred = torch.sub(part, centre, out=work)
        factor = rest[0] if rest else centred
        totals.append(factor.sum(dims, keepdim=True))
        products.append(torch.mul(centred, factor, out=work).sum(dims, keepdim=True))
    return reduce(torch.add, totals), reduce(torch.add, products)


def channel_map(offset: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """Return offset + Σ slope * x over the pairs (slope, x), in the dtype of the first x."""
    slopes, tensors = zip(*terms, strict=True)
    memory = _memory(tensors[0])
    for result, work, *parts in _pieces(memory, *tensors):
        value = offset
        for slope, part in zip(slopes, parts, strict=True):
            value = torch.addcmul(value, slope, part, out=work)
        if result is not work:  # half precision
            result.copy_(value)
    return value.to(tensors[0].dtype) if memory is None else memory


def _memory(x: Tensor) -> Tensor | None:
    """Return memory like ``x``, or None if autograd or the compiler must record every operation."""
    return None if torch.is_grad_enabled() or torch.compiler.is_compiling() else torch.empty_like(x)


def _pieces(memory: Tensor | None, *tensors: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield parts of ``memory``, scratch memory, and parts of ``tensors`` in the working dtype.

    Usually there is one part, and ``memory`` is the scratch memory. In half precision, float32
    copies of whole tensors would triple the memory, so a part of the batch is copied at a time.
    """
    dtype = working_dtype(tensors[0])
    if memory is None or memory.dtype == dtype:
        yield memory, memory, *(tensor.to(dtype) for tensor in tensors)
        return
    batch, size = len(memory), CPU_PIECE if memory.device.type == "cpu" else DEVICE_PIECE
    rows = max(1, min(size * batch // max(1, memory.numel()), batch // FEWEST_PIECES))
    copies = [torch.empty_like(tensor[:rows], dtype=dtype) for tensor in tensors]
    for result, *parts in zip(*(t.split(rows) for t in (memory, *tensors)), strict=True):
        floats = [copy[: len(part)].copy_(part) for copy, part in zip(copies, parts, strict=True)]
        yield result, floats[0], *floats


def working_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of statistics and arithmetic: float32 for half precision, else that of x."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def as_channels(values: Tensor, x: Tensor) -> Tensor:
    """Return ``values`` (C,) as (1, C, 1, ...), which broadcasts to ``x``, in the working dtype."""
    return values.view(1, -1, *(1,) * (x.dim() - 2)).to(working_dtype(x))


def check_input(x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> None:
    """Raise ValueError unless ``x`` is floating-point (B, C, ...), and both others are (C,)."""
    if x.dim() < 2 or x.numel() == 0 or not x.is_floating_point():
        raise ValueError(
            "expected a floating-point input (B, C, ...) with a value in each channel, got "
            f"{x.dtype} of shape {tuple(x.shape)}"
        )
    for name, values in (("gamma", gamma), ("beta", beta)):
        if values is not None and values.shape != x.shape[1:2]:
            shapes = f"{tuple(values.shape)} does not fit the input of shape {tuple(x.shape)}"
            raise ValueError(f"{name} of shape {shapes}: expected {tuple(x.shape[1:2])}")
