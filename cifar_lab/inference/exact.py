"""Arithmetic in whole float32, for numbers that must be the same on every device."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch.backends import cudnn


def whole_float32() -> AbstractContextManager[None]:
    """A context in which a GPU's convolutions are not rounded to TF32, ten bits of fraction.

    PyTorch lets cuDNN do that to float32 since 1.7; products of matrices are not touched
    (https://docs.pytorch.org/docs/stable/notes/cuda.html, "TensorFloat-32").
    """
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )
