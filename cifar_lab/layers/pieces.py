"""Evaluate a pass over large tensors without large temporaries, whatever their dtype.

float32 and float64 tensors go in one piece, with the memory of the result as the only scratch.
Statistics and arithmetic of half-precision tensors are float32; converted whole, they would triple
their memory, so they are converted piece by piece of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Values converted at a time: few enough for a cache on a CPU, and to keep any other device busy.
CPU_PIECE = 2**17
DEVICE_PIECE = 2**22
FEWEST_PIECES = 6  # so that the float32 copies of small tensors stay small too


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of statistics and arithmetic: float32 for half precision, else ``dtype``."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def as_channels(values: Tensor, x: Tensor) -> Tensor:
    """(C,) in the shape that broadcasts to ``x``, (1, C, 1, ...), and in its working dtype."""
    if x.dim() > 2:  # (C,) broadcasts to (B, C) as it is
        values = values.view(1, -1, *(1,) * (x.dim() - 2))
    dtype = working_dtype(x.dtype)
    return values if values.dtype == dtype else values.to(dtype)


def first_values(x: Tensor) -> Tensor:
    """The first value of each channel, (1, C, 1, ...), a constant for autograd; 0 without one."""
    if x.numel() == 0:
        return x.new_zeros(1, x.shape[1], *(1,) * (x.dim() - 2), dtype=working_dtype(x.dtype))
    values = x.detach()[:1]
    for dim in range(2, x.dim()):
        values = values.narrow(dim, 0, 1)
    return values.float() if _is_half(x) else values


def result_buffer(x: Tensor, dy: Tensor | None = None) -> Tensor | None:
    """Memory like ``x`` for a result, or None where no tensor may be written into.

    That is so where autograd, the compiler, a transform of ``torch.func`` or a batch of upstream
    gradients ``dy`` (``is_grads_batched``) must see every operation; they know no ``out=``.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    # PyTorch has no public way to ask for these two; autograd.Function itself asks the first.
    if torch._C._are_functorch_transforms_active():
        return None
    if dy is not None and torch._C._functorch.is_legacy_batchedtensor(dy):
        return None
    return torch.empty_like(x)


def summed(
    formula: Callable[..., tuple[Tensor, ...]], buffer: Tensor | None, *tensors: Tensor
) -> tuple[Tensor, ...]:
    """``formula(*tensors)``, some sums over the batch; ``buffer`` is overwritten."""
    if not _is_half(tensors[0]):
        return formula(*tensors, work=buffer)
    if buffer is None or len(buffer) == 0:
        return formula(*[tensor.float() for tensor in tensors])
    sums = [formula(*parts, work=parts[0]) for _, parts in _float_pieces(buffer, tensors)]
    return tuple(torch.stack(column).sum(0) for column in zip(*sums, strict=True))


def mapped(formula: Callable[..., Tensor], buffer: Tensor | None, *tensors: Tensor) -> Tensor:
    """``formula(*tensors)``, of the shape and dtype of the first; made in ``buffer``."""
    if not _is_half(tensors[0]):
        return formula(*tensors, work=buffer)
    if buffer is None:
        return formula(*[tensor.float() for tensor in tensors]).to(tensors[0].dtype)
    for part, parts in _float_pieces(buffer, tensors):
        part.copy_(formula(*parts, work=parts[0]))
    return buffer


def _is_half(x: Tensor) -> bool:
    return working_dtype(x.dtype) != x.dtype


def _float_pieces(
    buffer: Tensor, tensors: tuple[Tensor, ...]
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Parts of the batch: of ``buffer``, and float32 copies of ``tensors``, good until the next."""
    batch = len(buffer)
    size = CPU_PIECE if buffer.device.type == "cpu" else DEVICE_PIECE
    rows = max(1, min(size * batch // max(1, buffer.numel()), batch // FEWEST_PIECES))
    copies = [torch.empty_like(tensor[:rows], dtype=torch.float32) for tensor in tensors]
    for start in range(0, batch, rows):
        parts = [tensor[start : start + rows] for tensor in tensors]
        floats = [copy[: len(part)].copy_(part) for copy, part in zip(copies, parts, strict=True)]
        yield buffer[start : start + rows], floats
