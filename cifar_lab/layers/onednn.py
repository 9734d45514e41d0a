"""Matrix products in float32 by the faster of the two libraries that PyTorch has on a CPU.

PyTorch hands them to MKL, which takes kernels for AVX2 on a processor that is not Intel's, also
where that has AVX512. oneDNN, which PyTorch has for convolutions and bf16, takes those for AVX512;
docs/performance.md says what that gains. PyTorch has no public way to ask for it: the operator
below is that of its compiler, and is taken only where it is there and computes what it should.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F


def linear(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a bᵀ``, (M, N), of a (M, K) and b (N, K), and ``bias`` (N,) on each row; of one dtype.

    oneDNN's has no gradient of its own: where autograd looks on, it is PyTorch's.
    """
    in_float32 = a.dtype == torch.float32 and a.device.type == "cpu"
    if in_float32 and not torch.is_grad_enabled() and onednn_is_faster():
        return _onednn(a, b, bias)
    return F.linear(a, b, bias)


@cache
def onednn_is_faster() -> bool:
    """Whether ``linear`` is another than PyTorch's, for float32 on the CPU."""
    return _is_amd_with_avx512() and _onednn_is_right()


def _is_amd_with_avx512() -> bool:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False


def _onednn_is_right() -> bool:
    """Whether the operator is there and agrees with PyTorch's, in each layout that it is given."""
    a, b = (torch.arange(12.0).sin().view(3, 4), torch.arange(20.0).cos().view(5, 4))
    layouts = [(x, y) for x in (a, a.t().contiguous().t()) for y in (b, b.t().contiguous().t())]
    try:
        return all(
            torch.allclose(_onednn(x, y, bias), F.linear(x, y, bias), atol=1e-6)
            for x, y in layouts
            for bias in (None, torch.ones(5))
        )
    except (AttributeError, RuntimeError, TypeError):
        return False


def _onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
