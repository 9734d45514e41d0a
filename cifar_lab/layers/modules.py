"""``BatchNorm1d`` and ``BatchNorm2d``: drop-in for PyTorch's modules, with the arithmetic of here.

Parameters, buffers, their reset and the ``state_dict`` are inherited, so that checkpoints load both
ways and code that looks for PyTorch's classes (``update_bn``, weight-decay groups) finds these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from .checks import check_count
from .composed import batch_norm_composed
from .formula import normalise
from .function import batch_norm_manual
from .pieces import as_channels, result_buffer
from .sync import several_ranks

Form = Literal["manual", "composed"]

FORMS: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]] = {
    "manual": batch_norm_manual,
    "composed": batch_norm_composed,
}


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What ``BatchNorm1d`` and ``BatchNorm2d`` share.

    Training normalises each channel with the mean and the **biased** variance of the batch, and
    moves the running statistics towards the mean and the **unbiased** variance:
    ``running = (1 - momentum) * running + momentum * batch``. Evaluation normalises with the
    running statistics. The output has the shape, dtype and memory format of the input; statistics
    are float32 where the input has half precision, as under autocast.

    Args:
        num_features: C, the number of channels or units.
        eps: added to the variance, under the root.
        momentum: the weight of the newest batch; None for the mean over all batches so far.
        affine: learn gamma (``weight``) and beta (``bias``), (C,), first 1 and 0.
        track_running_stats: keep running statistics; without, evaluation takes the batch's.
        device: of the parameters and buffers.
        dtype: of the parameters and buffers.
        sync: in training, take the statistics over the batches of all ranks of the default process
            group, which may differ in size. Gradients of parameters stay each rank's own share, for
            data-parallel training to average.
        form: "manual", with the hand-written backward pass, or "composed", with autograd's.

    Raises:
        ValueError: for a ``form`` that is neither; in ``forward``, for an input of another shape
            than the module takes and, in training, of fewer than two values a channel.
    """

    layouts: ClassVar[dict[int, str]]  # the shapes it takes, by their length

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        sync: bool = False,
        form: Form = "manual",
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form={form!r}: expected one of {', '.join(FORMS)}")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.sync = sync
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``; in training, move the running statistics towards those of the batch."""
        self._check(x)
        if self.training or self.running_mean is None or self.running_var is None:
            return self._with_batch_statistics(x)
        return self._with_running_statistics(x, self.running_mean, self.running_var)

    def extra_repr(self) -> str:
        """PyTorch's, with what is new here."""
        return f"{super().extra_repr()}, sync={self.sync}, form={self.form!r}"

    def _with_batch_statistics(self, x: Tensor) -> Tensor:
        sync = self.sync and self.training
        if not several_ranks(sync):
            check_count(x)
        y, mean, var, count = FORMS[self.form](x, self.weight, self.bias, self.eps, sync)
        if self.training and self.track_running_stats:
            values = x.numel() // x.shape[1]
            bessel = count / (count - 1).clamp(min=1) if sync else values / (values - 1)
            # They carry no gradient; the compiler of PyTorch 2.11 forgets that.
            self._track(mean.detach(), var.detach() * bessel)
        return y

    def _with_running_statistics(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        # The statistics are constants: an affine map, whose gradient autograd knows as well.
        mean, var = as_channels(mean, x), as_channels(var, x)
        return normalise(x, mean, var, self.weight, self.bias, self.eps, result_buffer(x))

    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        running_mean, running_var = self.running_mean, self.running_var
        batches = self.num_batches_tracked
        if running_mean is None or running_var is None or batches is None:
            return
        batches.add_(1)
        # Without a momentum, the mean over all batches so far.
        weight: float | Tensor | None = self.momentum
        if weight is None:
            weight = batches.to(running_mean.dtype).reciprocal()
        running_mean.lerp_(mean.to(running_mean.dtype), weight)
        running_var.lerp_(unbiased_var.to(running_var.dtype), weight)

    def _check(self, x: Tensor) -> None:
        if x.dim() not in self.layouts or x.shape[1] != self.num_features:
            raise ValueError(
                f"expected {' or '.join(f'{dims}D' for dims in self.layouts)} input, "
                f"{' or '.join(self.layouts.values())} with C = num_features = "
                f"{self.num_features}, got {x.dim()}D input of shape {tuple(x.shape)}"
            )


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Batch normalization of (B, C) or (B, C, L), drop-in for ``nn.BatchNorm1d``.

    A channel's values are those of the batch, and of all L positions. Source: Ioffe and Szegedy,
    2015, https://arxiv.org/abs/1502.03167, algorithm 1; arguments: see ``_BatchNorm``.
    """

    layouts: ClassVar = {2: "(B, C)", 3: "(B, C, L)"}


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch normalization of (B, C, H, W), drop-in for ``nn.BatchNorm2d``.

    A channel's values are those of all positions of all images. Source: Ioffe and Szegedy, 2015,
    https://arxiv.org/abs/1502.03167, section 3.2; arguments: see ``_BatchNorm``.
    """

    layouts: ClassVar = {4: "(B, C, H, W)"}
