"""Which precision ``--precision auto`` means: bf16 where the hardware computes in it."""

from __future__ import annotations

import torch


def resolve_precision(wanted: str, accelerator: str) -> str:
    """Gives Lightning's name of a precision.

    Args:
        wanted: "auto" or the name itself.
        accelerator: the kind of device that trains: "cpu", "cuda" or "mps".

    Returns:
        For "auto", "bf16-mixed" on a CPU with AVX512-BF16 or AMX and on a GPU that computes in
        bf16 (from Ampere on), else "32-true". Elsewhere bf16 is emulated, and several times slower
        than float32.
    """
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if _computes_in_bf16(accelerator) else "32-true"


def _computes_in_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return accelerator == "cpu" and _cpu_computes_in_bf16()


def _cpu_computes_in_bf16() -> bool:
    # The public torch.cpu.get_capabilities came after torch 2.11; before it there were these.
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
