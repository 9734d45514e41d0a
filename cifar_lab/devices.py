"""The device, the precision and the number of threads that the settings mean on this machine."""

import math
import os
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
        "Omit the flag to use the best one available."
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
    """Return Lightning's name of a precision, and choose one for "auto".

    "auto" means "bf16-mixed" on a GPU that computes in bf16 (from Ampere on) and on a CPU with
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


def use_threads(wanted: int | None, processes: int = 1) -> None:
    """Set the number of CPU threads of torch; None stands for torch's default, with two limits.

    There are no more threads than CPUs that this process may use, and ``processes`` on this machine
    share them. SLURM tells each of its tasks its number of CPUs in a variable.
    """
    if wanted is None:
        cpus = usable_cpus()
        own = os.environ.get("SLURM_CPUS_PER_TASK", "")
        share = int(own) if own.isdecimal() else cpus // processes
        wanted = max(1, min(torch.get_num_threads(), cpus, share))
    if wanted != torch.get_num_threads():
        torch.set_num_threads(wanted)
    if processes > 1:  # else Lightning sets it, from the affinity mask, and threads to it
        os.environ["OMP_NUM_THREADS"] = str(wanted)


def usable_cpus() -> int:
    """Return the number of CPUs that the affinity mask and the quotas of this process allow."""
    mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return max(1, int(min(len(mask) or os.cpu_count() or 1, cpu_quota())))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the number of CPUs that Linux's control groups allow; infinity if there is no limit.

    A container or a scheduler's job may have such a quota, and so may each group above it. Both
    versions of control groups are read (https://docs.kernel.org/admin-guide/cgroup-v2.html,
    ``cpu.max``, and https://docs.kernel.org/scheduler/sched-bwc.html).
    """
    quotas = [math.inf]
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, path = line.split(":", 2)
        base = root / "cpu" if controllers else root
        if not controllers or "cpu" in controllers.split(","):
            group = base / path.lstrip("/")
            quotas += [_quota_of(folder) for folder in (group, *group.parents)]
    return min(quotas)


def _quota_of(folder: Path) -> float:
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            return int(quota) / int(period) if int(quota) > 0 else math.inf
        except (OSError, ValueError):  # no such file, or "max" instead of a number
            continue
    return math.inf
