"""What the numbers of a benchmark belong to: hardware, data, versions."""

from __future__ import annotations

from typing import Any

import torch

from cifar_lab.benchmark.contenders import Setting
from cifar_lab.training.summary import device_name, versions


def describe(setting: Setting) -> dict[str, Any]:
    """Hardware with its instruction set, data with fingerprint, versions: a line each."""
    images = setting.data.image_set
    machine = device_name(setting.device)
    if setting.device.type == "cpu":
        machine += f", {torch.backends.cpu.get_cpu_capability()}"
    return {
        "machine": machine,
        "data": f"{images.source}, fingerprint {images.fingerprint}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
