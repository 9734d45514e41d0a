"""The highest arithmetic speed of a machine, with which a model's speed is compared."""

import time
from collections.abc import Callable

import torch
from torch import nn

MATRIX_SIZE = 2048
Work = tuple[Callable[[], object], int]  # a function, and the operations of one call


def peak(
    work: Callable[[torch.device, torch.dtype], Work], device: torch.device, dtype: torch.dtype
) -> float:
    """Return the highest FLOP/s of :func:`matrix_product` or :func:`convolution`."""
    run, flops = work(device, dtype)
    with torch.no_grad():
        return max(flops / timed(run, device, repeats=3) for _ in range(5))


def matrix_product(device: torch.device, dtype: torch.dtype) -> Work:
    """Return a product of two square matrices."""
    size = MATRIX_SIZE
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2 * size**3


def convolution(device: torch.device, dtype: torch.dtype) -> Work:
    """Return a 3×3 convolution from 256 channels to 256 channels, in channels-last order."""
    channels, size, batch = 256, 16, 32
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype)
    layer.to(memory_format=torch.channels_last)
    x = torch.randn(batch, channels, size, size, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    return lambda: layer(x), 2 * batch * size**2 * 9 * channels**2


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the mean seconds of a call after a first one; CUDA events time them on a GPU."""
    work()
    if device.type == "cuda":
        return _timed_by_events(work, repeats)
    wait_for(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait_for(device)
    return (time.perf_counter() - start) / repeats


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its work; on a CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def _timed_by_events(work: Callable[[], object], repeats: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000 / repeats
