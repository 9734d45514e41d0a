"""How weights start: the report's small normal numbers, or PyTorch's default."""

from math import prod

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.checks import Array, float_dtype

Rng = np.random.Generator | int | None
"""A generator, a seed for one, or None for a different one each time."""


def initial_weights(
    weight_shape: tuple[int, ...], *, std: float | None, rng: Rng, dtype: npt.DTypeLike
) -> dict[str, Array]:
    """Draw a weight and a bias.

    With a `std`, the weight is N(0, std²) and the bias 0. With None, both are uniform within
    ±1/√fan_in, which is what `torch.nn.Linear` and `torch.nn.Conv2d` do.

    Args:
        weight_shape: (out, in) or (out, in, 3, 3); the bias has shape (out,).
        std: standard deviation of the weight, at least 0, or None.
        rng: where the numbers come from.
        dtype: float32 or float64.

    Returns:
        `{"weight": array, "bias": array}`.

    Raises:
        ValueError: a length is below 1, `std` is negative or `dtype` is another.
    """
    dtype = float_dtype(dtype)
    if min(weight_shape) < 1:
        raise ValueError(f"the weight's shape is {weight_shape}; expected lengths of at least 1")
    if std is not None and not std >= 0:
        raise ValueError(f"std is {std}; expected at least 0, or None for PyTorch's default")
    rng, n_out = np.random.default_rng(rng), weight_shape[0]
    if std is None:
        bound = prod(weight_shape[1:]) ** -0.5
        weight, bias = rng.uniform(-bound, bound, weight_shape), rng.uniform(-bound, bound, n_out)
    else:
        weight, bias = rng.normal(0.0, std, weight_shape), np.zeros(n_out)
    return {"weight": weight.astype(dtype), "bias": bias.astype(dtype)}
