"""What batch normalization refuses, with both shapes named."""

from __future__ import annotations

from torch import Tensor


def check_input(x: Tensor) -> None:
    """Raise ValueError unless ``x`` is (B, C, ...) and real floating point."""
    if x.dim() < 2 or x.shape[1] == 0:
        raise ValueError(f"expected an input (B, C, ...) with C > 0, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"expected a floating-point input, got {x.dtype}")


def check_channels(x: Tensor, **parameters: Tensor | None) -> None:
    """Raise ValueError unless each parameter has one value for each channel of ``x``."""
    for name, values in parameters.items():
        if values is not None and values.shape != x.shape[1:2]:
            raise ValueError(
                f"{name} of shape {tuple(values.shape)} does not fit the input of shape "
                f"{tuple(x.shape)}: expected {name} of shape ({x.shape[1]},), a value a channel"
            )


def check_count(x: Tensor) -> None:
    """Raise ValueError unless a channel has two values or more.

    The statistics of a single value normalise it to 0 whatever it was, and those of none do not
    exist.
    """
    if x.numel() < 2 * x.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {x.size()}"
        )
