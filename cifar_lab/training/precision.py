"""Which precision ``--precision auto`` means: bf16 where that is faster than float32."""

from __future__ import annotations

import time
from functools import cache

import torch

GAIN = 1.2  # that bf16 has to bring; a Xeon with AVX512-BF16 and without AMX is at 0.5


def resolve_precision(wanted: str, accelerator: str) -> str:
    """Gives Lightning's name of a precision.

    Args:
        wanted: "auto" or the name itself.
        accelerator: the kind of device that trains: "cpu", "cuda" or "mps".

    Returns:
        For "auto", "bf16-mixed" on a GPU that computes in bf16 (from Ampere on) and on a CPU with
        AVX512-BF16 or AMX whose matrix products are faster in bf16, else "32-true". Elsewhere bf16
        is emulated, and several times slower than float32.
    """
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if _gains_from_bf16(accelerator) else "32-true"


def _gains_from_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return accelerator == "cpu" and _cpu_computes_in_bf16() and _cpu_speedup() > GAIN


def _cpu_computes_in_bf16() -> bool:
    # The public torch.cpu.get_capabilities came after torch 2.11; before it there were these.
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


@cache
def _cpu_speedup() -> float:
    """How many times faster this processor multiplies matrices in bf16 than in float32."""
    in_float32, in_bf16 = zip(
        *((_product_seconds(torch.float32), _product_seconds(torch.bfloat16)) for _ in range(5)),
        strict=True,
    )
    return min(in_float32) / min(in_bf16)


def _product_seconds(dtype: torch.dtype) -> float:
    matrix = torch.ones(1024, 1024, dtype=dtype)
    start = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - start
