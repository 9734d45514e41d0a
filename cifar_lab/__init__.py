"""CIFAR-10 in PyTorch Lightning: from backpropagation by hand to fast training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_lab.data.datamodule import CIFAR10DataModule

__version__ = "0.1.0"
__all__ = ["CIFAR10DataModule"]


def __getattr__(name: str) -> Any:
    # Looked up on demand, so that `import cifar_lab.cli` does without torch and --help is quick.
    if name == "CIFAR10DataModule":
        from cifar_lab.data.datamodule import CIFAR10DataModule

        return CIFAR10DataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
