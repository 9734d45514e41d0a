"""The mistakes in batch and layer normalization, a part of the catalogue in ``mistakes.py``.

Both are the same function along different axes, so they share the mistakes. N is the number of
values in a mean: the samples of the batch, or the features of a sample.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

from cifar_lab.numpy_reference.layer import Array


def add_statistics(v: SimpleNamespace, axis: int, eps: float) -> None:
    """Add the intermediate values of normalization to the inputs."""

    def mean(a: Array, axis: int = axis) -> Array:
        return a.mean(axis=axis, keepdims=True)

    v.axis, v.eps, v.mean = axis, eps, mean
    v.n = v.x.shape[axis]
    v.bessel = v.n / (v.n - 1) if v.n > 1 else np.inf
    v.centred = v.x - mean(v.x)
    v.var = mean(v.centred**2)
    v.r = 1 / np.sqrt(v.var + eps)
    v.x_hat = v.centred * v.r
    v.dx_hat = v.gamma * v.dout
    v.by_mean, v.by_var = mean(v.dx_hat), v.x_hat * mean(v.dx_hat * v.x_hat)  # terms of dX


def _y(v: Any, std: Any, mean: Any = None) -> Any:
    """Return the output with another standard deviation or another mean."""
    return v.gamma * (v.x - (v.mean(v.x) if mean is None else mean)) / std + v.beta


def _dx(v: Any, **changed: Any) -> Any:
    """Return the formula of dX with some of its quantities changed."""
    w = SimpleNamespace(**{**vars(v), **changed})
    return w.r * (w.dx_hat - w.mean(w.dx_hat) - w.x_hat * w.mean(w.dx_hat * w.x_hat))


def _dx_with(v: Any, r: Any) -> Any:
    """Return the formula of dX with another r, also in x̂."""
    return _dx(v, r=r, x_hat=v.centred * r)


NORM: dict[str, dict[str, Any]] = {
    "output": {
        "Bessel's correction: σ² is divided by N − 1, not by N.": (
            lambda v: _y(v, np.sqrt(v.bessel * v.var + v.eps))
        ),
        "ε is outside of the root.": lambda v: _y(v, np.sqrt(v.var) + v.eps),
        "ε is outside of the root, and σ² is divided by N − 1 (Bessel's correction), not by N.": (
            lambda v: _y(v, np.sqrt(v.bessel * v.var) + v.eps)
        ),
        "ε is forgotten.": lambda v: _y(v, np.sqrt(v.var)),
        "The argument eps is not used: ε is 1e-5.": lambda v: _y(v, np.sqrt(v.var + 1e-5)),
        "The root is forgotten: it is divided by the variance.": lambda v: _y(v, v.var + v.eps),
        "γ is forgotten.": lambda v: v.x_hat + v.beta,
        "β is forgotten.": lambda v: v.gamma * v.x_hat,
        "The mean and the variance run along the wrong axis.": lambda v: _y(
            v, np.sqrt(v.x.var(axis=1 - v.axis, keepdims=True) + v.eps), v.mean(v.x, 1 - v.axis)
        ),
        "It uses running statistics that start at 0 and 1: in training, use those of the batch.": (
            lambda v: _y(v, np.sqrt(1 + v.eps), 0.0)
        ),
        "It uses running statistics, updated once: in training, use those of the batch.": (
            lambda v: _y(v, np.sqrt(0.9 + 0.1 * v.var + v.eps), 0.1 * v.mean(v.x))
        ),
    },
    "x": {
        "The term of the mean, r mean(dX̂), is missing.": lambda v: v.r * (v.dx_hat - v.by_var),
        "The term of the variance, r x̂ mean(dX̂ x̂), is missing.": (
            lambda v: v.r * (v.dx_hat - v.by_mean)
        ),
        "The mean and the variance are treated as constants, but depend on x.": (
            lambda v: v.r * v.dx_hat
        ),
        "The terms of the mean and the variance are added, not subtracted.": (
            lambda v: v.r * (v.dx_hat + v.by_mean + v.by_var)
        ),
        "γ is forgotten: dX̂ is γ dY.": lambda v: _dx(v, dx_hat=v.dout),
        "γ is multiplied twice.": lambda v: _dx(v, dx_hat=v.gamma * v.dx_hat),
        "The factor r = 1/√(σ² + ε) in front is forgotten.": lambda v: _dx(v, r=1.0),
        "The root is forgotten: r is 1/√(σ² + ε).": lambda v: _dx_with(v, v.r**2),
        "ε is forgotten.": lambda v: _dx_with(v, 1 / np.sqrt(v.var)),
        "The mean is not subtracted in x̂.": lambda v: _dx(v, x_hat=v.x * v.r),
        "The sums are not divided by N.": lambda v: _dx(v, mean=lambda a: v.n * v.mean(a)),
        "Bessel's correction: the sums are divided by N − 1, not by N.": (
            lambda v: _dx(v, mean=lambda a: v.bessel * v.mean(a))
        ),
        "The sums over dX̂ and dX̂ x̂ are swapped.": (
            lambda v: v.r * (v.dx_hat - v.mean(v.dx_hat * v.x_hat) - v.x_hat * v.by_mean)
        ),
        "The sums run along the wrong axis.": (
            lambda v: _dx(v, mean=lambda a: v.mean(a, 1 - v.axis))
        ),
        "It is N times too large: the 1/N in front of the bracket is forgotten.": (
            lambda v: v.n * v.right
        ),
    },
    "gamma": {
        "It is not summed over the batch.": lambda v: v.dout * v.x_hat,
        "It is summed over the features, not over the samples.": (
            lambda v: (v.dout * v.x_hat).sum(axis=1)
        ),
        "x is used in place of x̂.": lambda v: (v.dout * v.x).sum(axis=0),
        "x − μ is used in place of x̂.": lambda v: (v.dout * v.centred).sum(axis=0),
        "The mean is not subtracted in x̂.": lambda v: (v.dout * v.x * v.r).sum(axis=0),
        "It is dβ: the factor x̂ is missing.": lambda v: v.dout.sum(axis=0),
    },
    "beta": {
        "It is not summed over the batch.": lambda v: v.dout,
        "It is summed over the features, not over the samples.": lambda v: v.dout.sum(axis=1),
        "It is dγ: the factor x̂ does not belong here.": lambda v: (v.dout * v.x_hat).sum(axis=0),
    },
}

LAYER_NORM = {**NORM, "output": dict(NORM["output"])}
LAYER_NORM["output"][
    "The mean and the variance have the shape (B,), which broadcasts along the wrong axis: "
    "keep the shape (B, 1) with keepdim."
] = lambda v: _y(v, np.sqrt(v.var[:, 0] + v.eps), v.mean(v.x)[:, 0])
