"""CIFAR-10 in PyTorch Lightning: from backpropagation by hand to fast training."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_lab.data.datamodule import CIFAR10DataModule
    from cifar_lab.plan import Plan
    from cifar_lab.run.curves import plot
    from cifar_lab.run.restore import load_model
    from cifar_lab.run.run import Run, runs
    from cifar_lab.training.fit import fit

__version__ = "0.2.0"
__all__ = ["CIFAR10DataModule", "Plan", "Run", "fit", "load_model", "plot", "runs"]

_HOMES = {
    "CIFAR10DataModule": "cifar_lab.data.datamodule",
    "Plan": "cifar_lab.plan",
    "Run": "cifar_lab.run.run",
    "fit": "cifar_lab.training.fit",
    "load_model": "cifar_lab.run.restore",
    "plot": "cifar_lab.run.curves",
    "runs": "cifar_lab.run.run",
}


# Lightning and torchmetrics, when they are imported, fail at a rank that is not a number.
for _name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
    if not os.environ.get(_name, "0").isdecimal():
        del os.environ[_name]


def __getattr__(name: str) -> Any:
    # Imported on demand, so that the command line does without torch and --help is quick.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
