"""Code shared by all layers: their interface, input checks, and weight initialization."""

from math import prod
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
"""A float32 or float64 array."""

IntArray = npt.NDArray[np.integer[Any]]

Dim = int | str
"""A length that must match, or a letter for any length."""

Rng = np.random.Generator | int | None
"""A generator, a seed for one, or None for a differently seeded one each time."""

Std = float | Literal["he"] | None
"""A standard deviation of initial weights, at least 0.

"he" is √(2/fan_in), which keeps the size of activations through ReLUs (He et al., 2015,
https://arxiv.org/abs/1502.01852). None is PyTorch's default, uniform within ±1/√fan_in.
"""

T = TypeVar("T")


class Layer:
    """Base class of all layers.

    ``forward(x)`` computes the output and keeps what the backward pass needs. ``backward(dout)``
    takes the gradient of the loss with respect to that output, **overwrites** ``grads``, and
    returns the gradient with respect to ``x``. Nothing is accumulated, and neither ``x`` nor
    ``dout``, which has the shape and dtype of the output, is changed.

    ``params`` is read at every call, so its arrays may be changed in place or replaced between two
    steps. Between ``forward`` and ``backward``, do not change ``params`` or ``x``, which is not
    copied.

    Attributes:
        params: parameters by name; empty for a layer without parameters.
        grads: gradients of the parameters by name, after ``backward`` has run.
        training: whether dropout drops units and batch normalization uses batch statistics.
    """

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.training = True
        self._saved: tuple[tuple[int, ...], np.dtype[Any], Any] | None = None

    def forward(self, x: Array) -> Array:
        """Return the output for ``x``."""
        raise NotImplementedError

    def backward(self, dout: Array) -> Array:
        """Fill ``grads`` and return the gradient with respect to the last ``x``."""
        raise NotImplementedError

    def clear_cache(self) -> None:
        """Forget what ``forward`` kept."""
        self._saved = None

    def _save_for_backward(self, y: Array, saved: Any) -> Array:
        """Return the output ``y``; keep its shape and dtype, and ``saved`` for ``backward``."""
        self._saved = y.shape, y.dtype, saved
        return y

    def _saved_for(self, dout: Array) -> Any:
        """Return what ``forward`` saved, after checking that ``dout`` is like the output."""
        shape, dtype, saved = after_forward(self._saved)
        check_array(f"{type(self).__name__}: dout", dout, shape, dtype=dtype)
        return saved


def check_array(
    what: str, array: Array, *shapes: tuple[Dim, ...], dtype: npt.DTypeLike | None = None
) -> None:
    """Raise unless ``array`` is a float array of one of ``shapes``.

    Args:
        what: name of the array for the message, such as ``"Linear: x"``.
        array: array to check.
        shapes: allowed shapes, where a letter such as ``"B"`` stands for any length.
        dtype: dtype of the other operands, or None for either float32 or float64.

    Raises:
        TypeError: ``array`` is not a NumPy array.
        ValueError: the shape or the dtype is wrong; the message names the expected one.
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


def float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` as a NumPy dtype; raise ValueError unless it is float32 or float64."""
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype is {np.dtype(dtype)}; expected float32 or float64")
    return np.dtype(dtype)


def after_forward(saved: T | None) -> T:
    """Return what ``forward`` saved; raise RuntimeError if it has not run."""
    if saved is None:
        raise RuntimeError("backward was called before forward: there is nothing to differentiate")
    return saved


def initial_weights(
    weight_shape: tuple[int, ...], *, std: Std, rng: Rng, dtype: npt.DTypeLike
) -> dict[str, Array]:
    """Draw ``weight`` and ``bias``.

    With a ``std``, the weight is drawn from N(0, std²) and the bias is 0. With None, both are drawn
    uniformly within ±1/√fan_in, as in ``torch.nn.Linear`` and ``torch.nn.Conv2d``.

    Args:
        weight_shape: (out, in) or (out, in, 3, 3), each at least 1; the bias has shape (out,).
        std: standard deviation of the weight; see ``Std``.
        rng: generator or seed.
        dtype: float32 or float64.
    """
    dtype = float_dtype(dtype)
    if min(weight_shape) < 1:
        raise ValueError(f"the weight's shape is {weight_shape}; expected lengths of at least 1")
    rng, n_out, fan_in = np.random.default_rng(rng), weight_shape[0], prod(weight_shape[1:])
    deviation = (2 / fan_in) ** 0.5 if std == "he" else std
    if isinstance(deviation, str) or (deviation is not None and not deviation >= 0):
        raise ValueError(f"std is {std}; expected at least 0, he, or None for PyTorch's default")
    if deviation is None:
        bound = fan_in**-0.5
        weight, bias = rng.uniform(-bound, bound, weight_shape), rng.uniform(-bound, bound, n_out)
    else:
        weight, bias = rng.normal(0.0, deviation, weight_shape), np.zeros(n_out)
    return {"weight": weight.astype(dtype), "bias": bias.astype(dtype)}


def _fits(shape: tuple[int, ...], expected: tuple[Dim, ...]) -> bool:
    return len(shape) == len(expected) and all(
        isinstance(want, str) or have == want for have, want in zip(shape, expected, strict=True)
    )


def _show(shape: tuple[Dim, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
