"""What every layer asks of the arrays it is given: NumPy, float32 or float64, of one shape.

NumPy would broadcast a wrong shape and promote a wrong dtype without a word, and the gradient
would be wrong or the run twice as slow. So a mismatch raises, with what came and what was expected.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
"""A float32 or float64 array."""

IntArray = npt.NDArray[np.integer[Any]]

Dim = int | str
"""A length that must match, or a letter for one that is free."""

T = TypeVar("T")


def check_array(
    what: str, array: Array, *shapes: tuple[Dim, ...], dtype: npt.DTypeLike | None = None
) -> None:
    """Raise unless `array` is a float array of one of `shapes`.

    Args:
        what: what to call the array in the message, such as `"Linear: x"`.
        array: the array to check.
        shapes: the shapes allowed; a letter such as `"B"` stands for any length.
        dtype: the dtype that the rest of the computation has; default: float32 or float64.

    Raises:
        TypeError: it is no NumPy array.
        ValueError: the shape or the dtype differs; both are named.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} is a {type(array).__name__}; expected a NumPy array")
    if not any(_fits(array.shape, shape) for shape in shapes):
        expected = " or ".join(_show(shape) for shape in shapes)
        raise ValueError(f"{what} has shape {_show(array.shape)}; expected {expected}")
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"{what} has dtype {array.dtype}; expected float32 or float64")
    if dtype is not None and array.dtype != dtype:
        raise ValueError(
            f"{what} has dtype {array.dtype}; expected {np.dtype(dtype)}, as the other operands"
        )


def check_targets(what: str, targets: IntArray, n_samples: int, n_classes: int) -> None:
    """Raise unless `targets` holds `n_samples` class indices from 0 to `n_classes` − 1.

    Raises:
        TypeError: it is no NumPy array.
        ValueError: shape, dtype or a value differs from that.
    """
    if not isinstance(targets, np.ndarray):
        raise TypeError(f"{what} is a {type(targets).__name__}; expected a NumPy array")
    if targets.shape != (n_samples,):
        raise ValueError(f"{what} has shape {_show(targets.shape)}; expected {_show((n_samples,))}")
    if not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"{what} has dtype {targets.dtype}; expected integers (class indices)")
    if targets.min() < 0 or targets.max() >= n_classes:
        raise ValueError(
            f"{what} has values from {targets.min()} to {targets.max()}; "
            f"expected 0 to {n_classes - 1}"
        )


def float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype; raise ValueError unless it is float32 or float64."""
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype is {np.dtype(dtype)}; expected float32 or float64")
    return np.dtype(dtype)


def after_forward(saved: T | None) -> T:
    """Return what `forward` saved; raise RuntimeError if it has not run."""
    if saved is None:
        raise RuntimeError("backward was called before forward: there is nothing to differentiate")
    return saved


def _fits(shape: tuple[int, ...], expected: tuple[Dim, ...]) -> bool:
    return len(shape) == len(expected) and all(
        isinstance(want, str) or have == want for have, want in zip(shape, expected, strict=True)
    )


def _show(shape: tuple[Dim, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
