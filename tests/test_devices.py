"""The device and the precision that ``auto`` means, and the number of threads."""

import math
import os
from pathlib import Path

import pytest
import torch

from cifar_lab import devices
from cifar_lab.devices import device_kind
from cifar_lab.errors import UserError


@pytest.mark.parametrize(
    ("native", "speedup", "expected"),
    [(True, 1.8, "bf16-mixed"), (True, 0.5, "32-true"), (False, 1.8, "32-true")],
)
def test_auto_is_bf16_where_a_processor_has_it_and_gains(native, speedup, expected, monkeypatch):
    seconds = {torch.float32: speedup, torch.bfloat16: 1.0}
    monkeypatch.setattr(devices, "cpu_computes_in_bf16", lambda: native)
    monkeypatch.setattr(devices, "_product_seconds", seconds.__getitem__)
    devices._cpu_speedup.cache_clear()
    assert devices.resolve_precision("auto", "cpu") == expected
    assert devices.resolve_precision("64-true", "cpu") == "64-true"
    assert devices.resolve_precision("auto", "mps") == "32-true"
    devices._cpu_speedup.cache_clear()


def test_the_products_are_timed() -> None:
    assert devices._product_seconds(torch.bfloat16) > 0


def test_a_gpu_that_computes_in_bf16_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert devices.resolve_precision("auto", "cuda") == "bf16-mixed"
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation
    )
    assert devices.resolve_precision("auto", "cuda") == "32-true"


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_kind("auto") == device_kind("cpu") == "cpu"
    for name in ("gpu", "mps"):
        with pytest.raises(UserError, match=f"--accelerator {name}: torch .* no such device"):
            device_kind(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_kind("auto") == device_kind("gpu") == "cuda"


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/job/step", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, 2.0),
        ("0::/job/step", {"cpu.max": "100000 100000"}, 1.0),  # in a container: the path is outside
        (
            "3:memory:/x\n2:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/", {"cpu.max": ""}, math.inf),
        (None, {}, math.inf),  # another system than Linux
    ],
)
def test_the_quota_is_that_of_the_control_groups(
    own: str | None, files: dict[str, str], quota: float, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    assert devices.cpu_quota(tmp_path / "cgroup", tmp_path / "own") == quota


@pytest.mark.parametrize(
    ("wanted", "processes", "quota", "variables", "threads"),
    [
        (None, 1, math.inf, {}, 6),  # what torch uses by itself
        (None, 1, 2.5, {}, 2),
        (None, 1, 0.5, {}, 1),
        (None, 4, math.inf, {}, 2),  # a share of the 8 CPUs of the mask
        (None, 2, math.inf, {"SLURM_CPUS_PER_TASK": "3"}, 3),
        (None, 2, math.inf, {"SLURM_CPUS_PER_TASK": "many"}, 4),
        (3, 2, 1.0, {}, 3),
    ],
)
def test_threads_follow_the_mask_and_the_quota_or_the_flag(
    wanted, processes: int, quota: float, variables: dict[str, str], threads: int, monkeypatch
) -> None:
    used = [6]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(devices, "cpu_quota", lambda: quota)
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    devices.use_threads(wanted, processes)
    assert used[-1] == threads
    assert len(used) == 1 + (threads != 6)  # torch changes more than the number when it is told
