"""Which device ``--accelerator`` and which precision ``--precision auto`` mean on this machine."""

import platform
import time
from functools import cache
from pathlib import Path

import torch

from cifar_lab.errors import UserError
from cifar_lab.internals import cpu_computes_in_bf16

GAIN = 1.2  # least speed-up that bf16 must bring; on a Xeon with AVX512-BF16 but no AMX it is 0.5


def device_kind(accelerator: str) -> str:
    """Return the kind of device, "cpu", "cuda" or "mps", that ``--accelerator`` means here.

    Raises:
        UserError: There is no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wanted = {"cpu": ["cpu"], "gpu": ["mps", "cuda"], "mps": ["mps"]}
    for kind in wanted.get(accelerator, ["cuda", "mps", "cpu"]):
        if kind == "cpu" or there[kind]:
            return kind
    raise UserError(
        f"--accelerator {accelerator}: torch {torch.__version__} finds no such device here. "
        "Leave the flag out to use what there is."
    )


def device_name(device: torch.device) -> str:
    """Return the name of the hardware, with its number of threads if it is a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{_cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"
    return device.type


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def resolve_precision(wanted: str, device: str) -> str:
    """Return Lightning's name of a precision, for "auto" too.

    That is "bf16-mixed" on a GPU that computes in bf16 (from Ampere on) and on a CPU with
    AVX512-BF16 or AMX whose matrix products are faster in bf16, else "32-true". Elsewhere bf16 is
    emulated, and several times slower than float32.
    """
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if _gains_from_bf16(device) else "32-true"


def _gains_from_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and cpu_computes_in_bf16() and _cpu_speedup() > GAIN


@cache
def _cpu_speedup() -> float:
    """Return how many times faster this CPU multiplies matrices in bf16 than in float32."""
    in_float32, in_bf16 = [], []
    for _ in range(5):
        in_float32.append(_product_seconds(torch.float32))
        in_bf16.append(_product_seconds(torch.bfloat16))
    return min(in_float32) / min(in_bf16)


def _product_seconds(dtype: torch.dtype) -> float:
    matrix = torch.ones(1024, 1024, dtype=dtype)
    start = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - start
