"""The device and the precision that ``auto`` means."""

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
