"""The gradient check: compare a layer with autograd and with central differences.

The upstream gradient is random. If it were all ones, the gradient of the input of batch
normalization would be zero for many wrong formulas too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cifar_lab.gradient_check.case import Case
from cifar_lab.numpy_reference.layer import Array

TOLERANCES = {
    # float64 has 16 digits, and a central difference loses a third of them because of its step.
    np.dtype(np.float64): (1e-10, 1e-6),
    # float32 has 7. The values that it is compared with are computed in float64.
    np.dtype(np.float32): (1e-5, 1e-5),
}
"""Largest relative error against autograd and against central differences, by dtype."""

CANCELS_BELOW = 1e-3
"""If a gradient is smaller than this fraction of its terms, its error is relative to the terms.

It inherits their rounding errors. An example is batch normalization of two samples, where the
gradient of the input is about ε/σ² times its terms.
"""


@dataclass(frozen=True)
class Row:
    """The result for one gradient.

    Attributes:
        name: "x", the name of a parameter, or "output" for the forward pass.
        shape: shape of the gradient.
        autograd_error: ‖a − b‖/‖b‖ for the layer's gradient a and autograd's b.
        difference_error: the same error with b from central differences; None if there are none.
        passed: whether both errors are within tolerance, and shape and dtype are right.
    """

    name: str
    shape: tuple[int, ...]
    autograd_error: float
    difference_error: float | None
    passed: bool


def check_gradients(
    case: Case, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64
) -> list[Row]:
    """Compare the output and every gradient of a layer with autograd and central differences.

    Input and upstream gradient are read-only, and ``backward`` runs once before with another
    gradient. So a layer that writes to its input or adds to old gradients does not pass.

    Args:
        case: layer and input, in float64.
        rng: generator of the upstream gradient.
        dtype: dtype of the layer's computation; the reference is computed in float64.
    """
    ours, exact = case.astype(dtype), case.astype(dtype).astype(np.float64)
    ours.x.setflags(write=False)
    y = ours.forward(ours.x)
    dout = rng.normal(size=y.shape).astype(dtype)
    dout.setflags(write=False)
    ours.backward(-dout)
    got = {"output": y, **ours.backward(dout)}
    dout = dout.astype(np.float64)
    expected = autograd(exact, dout)
    slopes = central_differences(exact, dout) if case.smooth else {}
    terms = case.terms(exact.x, exact.params, dout)
    limit, slope_limit = TOLERANCES[np.dtype(dtype)]
    rows = []
    for name, want in expected.items():
        a = got.get(name, np.full_like(want, np.nan))  # a missing gradient is wrong
        size = float(np.linalg.norm(terms.get(name, 0.0)))
        error = relative_error(a, want, size)
        slope_error = relative_error(a, slopes[name], size) if name in slopes else None
        is_close = error <= limit and (slope_error is None or slope_error <= slope_limit)
        right_dtype = a.ndim == 0 or a.dtype == dtype  # a loss is a Python float, so float64
        rows.append(Row(name, a.shape, error, slope_error, is_close and right_dtype))
    return rows


def relative_error(a: Array, b: Array, terms: float = 0.0) -> float:
    """Return ‖a − b‖ / ‖b‖, or ‖a − b‖ / ``terms`` if b nearly cancels.

    It is 0 for equal arrays and infinite for arrays of different shapes.
    """
    if a.shape != b.shape:
        return np.inf
    error, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if size < CANCELS_BELOW * terms:
        size = terms
    return 0.0 if error == 0 else error / size if size else np.inf


def autograd(case: Case, dout: Array) -> dict[str, Array]:
    """Return the output of the PyTorch reference and every gradient, computed by autograd."""
    inputs = {"x": case.x, **case.params}
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in inputs.items()}
    y = case.reference(tensors["x"], tensors)
    grads = torch.autograd.grad(y, list(tensors.values()), torch.tensor(dout))
    named = zip(tensors, grads, strict=True)
    return {"output": y.detach().numpy(), **{name: grad.numpy() for name, grad in named}}


def central_differences(case: Case, dout: Array, step: float = 1e-5) -> dict[str, Array]:
    """Return the gradients of ``(dout * forward(x)).sum()``: of the input and every parameter."""

    def loss(x: Array) -> float:
        return float((dout * case.forward(x)).sum())

    x = case.x.copy()
    arrays = {"x": x, **case.params}
    return {name: _slope(lambda: loss(x), array, step) for name, array in arrays.items()}


def _slope(loss: Callable[[], float], array: Array, step: float) -> Array:
    """Return the central difference of ``loss`` for each number of ``array``, changed in place."""
    slope = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = loss()
        array[index] = value - step
        below = loss()
        array[index] = value
        slope[index] = (above - below) / (2 * step)
    return slope
