"""The most arithmetic that a machine does in a second, to hold a model's speed against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cifar_lab.benchmark.timing import timed

MATRIX_SIZE = 2048

# Some work and the floating-point operations of doing it once.
Work = tuple[Callable[[], object], int]


def peak(
    work: Callable[[torch.device, torch.dtype], Work], device: torch.device, dtype: torch.dtype
) -> float:
    """The best FLOP/s of some tries.

    Args:
        work: ``matrix_product`` or ``convolution``.
        device: that computes.
        dtype: that it computes in.
    """
    run, flops = work(device, dtype)
    with torch.no_grad():
        return max(flops / timed(run, device, repeats=3) for _ in range(5))


def matrix_product(device: torch.device, dtype: torch.dtype) -> Work:
    """A product of two square matrices."""
    size = MATRIX_SIZE
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2 * size**3


def convolution(device: torch.device, dtype: torch.dtype) -> Work:
    """A 3×3 convolution of 256 channels to as many, channels last."""
    channels, size, batch = 256, 16, 32
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype)
    layer.to(memory_format=torch.channels_last)
    x = torch.randn(batch, channels, size, size, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    return lambda: layer(x), 2 * batch * size**2 * 9 * channels**2
