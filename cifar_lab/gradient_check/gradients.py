"""The gradient check: a layer's output and gradients against autograd and central differences.

The upstream gradient is random. With all ones, the gradient that batch normalization passes to its
input is zero whatever the code does, and the check would show nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cifar_lab.gradient_check.case import Case
from cifar_lab.numpy_reference.checks import Array

TOLERANCES = {
    # Float64 carries 16 digits; a central difference loses a third of them to its step.
    np.dtype(np.float64): (1e-10, 1e-6),
    # Float32 carries 7. What it is compared with is computed in float64.
    np.dtype(np.float32): (1e-5, 1e-5),
}
"""By dtype, the largest error against autograd and against central differences."""

CANCELS_BELOW = 1e-3
"""A gradient below this part of its terms is measured by the terms, whose rounding it inherits.

Such is the gradient of batch normalization with two samples, about ε/σ² of its terms.
"""


@dataclass(frozen=True)
class Row:
    """What one gradient came to.

    Attributes:
        name: "x", the name of a parameter, or "output" for the forward pass.
        shape: the gradient's shape.
        autograd_error: ‖a − b‖/‖b‖ for the NumPy result a and autograd's b.
        difference_error: the same with b from central differences; None where that means nothing.
        passed: whether both are within tolerance, and shape and dtype are right.
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

    Input and upstream gradient are handed over read-only, and `backward` has run once before with
    another gradient, so a layer that writes to its input or adds to old gradients does not pass.

    Args:
        case: the layer and its input, in float64.
        rng: where the upstream gradient comes from.
        dtype: what the layer computes in; the comparison is computed in float64.

    Returns:
        One row for the output, one for each gradient.
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
    return [
        _row(name, got.get(name), want, slopes.get(name), terms.get(name, 0.0), dtype)
        for name, want in expected.items()
    ]


def relative_error(a: Array, b: Array, terms: float = 0.0) -> float:
    """Return ‖a − b‖ in units of ‖b‖, or of `terms` where b nearly cancels; 0 where a is b."""
    if a.shape != b.shape:
        return np.inf
    error, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if size < CANCELS_BELOW * terms:
        size = terms
    return 0.0 if error == 0 else error / size if size else np.inf


def autograd(case: Case, dout: Array) -> dict[str, Array]:
    """Return the output of the torch reference and every gradient as autograd derives it."""
    inputs = {"x": case.x, **case.params}
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in inputs.items()}
    y = case.reference(tensors["x"], {name: tensors[name] for name in case.params})
    grads = torch.autograd.grad(y, list(tensors.values()), torch.tensor(dout))
    named = zip(tensors, grads, strict=True)
    return {"output": y.detach().numpy(), **{name: grad.numpy() for name, grad in named}}


def central_differences(case: Case, dout: Array, step: float = 1e-5) -> dict[str, Array]:
    """Return the gradient of `(dout * forward(x)).sum()` for the input and every parameter."""

    def loss(x: Array) -> float:
        return float((dout * case.forward(x)).sum())

    x = case.x.copy()
    arrays = {"x": x, **case.params}
    return {name: _slope(lambda: loss(x), array, step) for name, array in arrays.items()}


def _slope(loss: Callable[[], float], array: Array, step: float) -> Array:
    """Move each number of `array` up and down, in place, and see what `loss` makes of it."""
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


def _row(
    name: str,
    got: Array | None,
    want: Array,
    slope: Array | None,
    terms: float,
    dtype: npt.DTypeLike,
) -> Row:
    if got is None:
        return Row(name, want.shape, np.inf, None, False)
    against_autograd = relative_error(got, want, terms)
    against_slope = None if slope is None else relative_error(got, slope, terms)
    limit, slope_limit = TOLERANCES[np.dtype(dtype)]
    passed = against_autograd <= limit and (against_slope is None or against_slope <= slope_limit)
    # A loss is a Python float, float64 whatever it was computed in.
    right_dtype = got.ndim == 0 or got.dtype == dtype
    return Row(name, got.shape, against_autograd, against_slope, passed and right_dtype)
