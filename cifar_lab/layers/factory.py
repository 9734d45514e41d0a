"""The three forms of batch normalization by name, for the settings of a model."""

from __future__ import annotations

from typing import Literal

from torch import nn

from cifar_lab.errors import UserError

from .modules import BatchNorm1d, BatchNorm2d

KINDS = ("manual", "composed", "native")

OURS = {1: BatchNorm1d, 2: BatchNorm2d}
NATIVE = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def batch_norm(num_features: int, dims: Literal[1, 2], kind: str = "manual") -> nn.Module:
    """A batch normalization layer for (B, C) and (B, C, L), or for (B, C, H, W).

    Args:
        num_features: C, the number of channels or units.
        dims: 1 for (B, C) and (B, C, L), 2 for (B, C, H, W).
        kind: ``manual``, with the backward pass derived by hand; ``composed``, of elementary
            operations, with autograd's; ``native``, PyTorch's own. Their state is the same.

    Raises:
        UserError: ``kind`` is none of these; it is the setting ``batchnorm`` of models.
        ValueError: ``dims`` is none of these.
    """
    if dims not in OURS:
        raise ValueError(f"dims={dims!r}: expected 1 for (B, C) or 2 for (B, C, H, W)")
    if kind not in KINDS:
        raise UserError(f"batchnorm {kind!r}: expected one of {', '.join(KINDS)}")
    if kind == "native":
        return NATIVE[dims](num_features)
    return OURS[dims](num_features, form=kind)  # type: ignore[arg-type]  # checked above
