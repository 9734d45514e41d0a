"""Whether PyTorch wants to see each operation, so that a layer must be made of PyTorch's own."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether the compiler or a transform of ``torch.func`` looks on."""
    # PyTorch has no public way to ask for transforms; autograd.Function itself asks this.
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
