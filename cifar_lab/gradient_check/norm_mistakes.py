"""The mistakes in batch and layer normalization, a part of the catalogue in ``mistakes.py``.

Both are one function along different axes, so they share the mistakes. N is the number of values
that a mean is taken over: the samples of the batch, or the features of a sample.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

from cifar_lab.numpy_reference.layer import Array


def add_statistics(v: SimpleNamespace, axis: int, eps: float) -> None:
    """Add to the inputs what normalization computes on its way."""

    def mean(a: Array, axis: int = axis) -> Array:
        return a.mean(axis=axis, keepdims=True)

    v.axis, v.eps, v.mean = axis, eps, mean
    v.n = np.float64(v.x.shape[axis])  # dividing by N − 1 = 0 gives infinity, not an error
    v.centred = v.x - mean(v.x)
    v.var = mean(v.centred**2)
    v.r = 1 / np.sqrt(v.var + eps)
    v.x_hat = v.centred * v.r
    v.dx_hat = v.gamma * v.dout
    v.through_mean = mean(v.dx_hat)  # the two terms of dX
    v.through_var = v.x_hat * mean(v.dx_hat * v.x_hat)


def _y(v: Any, std: Any, centred: Any = None) -> Any:
    """Return the output with another standard deviation or another deviation from the mean."""
    return v.gamma * (v.centred if centred is None else centred) / std + v.beta


def _dx(v: Any, **changed: Any) -> Any:
    """Return the formula of dX with some of its quantities changed."""
    w = SimpleNamespace(**{**vars(v), **changed})
    return w.r * (w.dx_hat - w.mean(w.dx_hat) - w.x_hat * w.mean(w.dx_hat * w.x_hat))


def _dx_with_r(v: Any, r: Any) -> Any:
    """Return the formula of dX with another r = 1/√(σ² + ε), also in x̂."""
    return _dx(v, r=r, x_hat=v.centred * r)


NORM: dict[str, dict[str, Any]] = {
    "output": {
        "Bessel's correction: σ² is divided by N − 1, not by N.": (
            lambda v: _y(v, np.sqrt(v.var * v.n / (v.n - 1) + v.eps))
        ),
        "ε is outside of the root.": lambda v: _y(v, np.sqrt(v.var) + v.eps),
        "ε is outside of the root, and σ² is divided by N − 1 (Bessel's correction), not by N.": (
            lambda v: _y(v, np.sqrt(v.var * v.n / (v.n - 1)) + v.eps)
        ),
        "ε is forgotten.": lambda v: _y(v, np.sqrt(v.var)),
        "The argument eps is not used: it is always 1e-5.": lambda v: _y(v, np.sqrt(v.var + 1e-5)),
        "The root is forgotten: it is divided by the variance.": lambda v: _y(v, v.var + v.eps),
        "The mean is not subtracted.": lambda v: _y(v, 1 / v.r, v.x),
        "γ is forgotten.": lambda v: v.x_hat + v.beta,
        "β is forgotten.": lambda v: v.gamma * v.x_hat,
        "The mean and the variance run along the wrong axis.": (
            lambda v: _y(
                v,
                np.sqrt(v.x.var(axis=1 - v.axis, keepdims=True) + v.eps),
                v.x - v.x.mean(axis=1 - v.axis, keepdims=True),
            )
        ),
        "The mean and the variance are those of all numbers.": (
            lambda v: _y(v, np.sqrt(v.x.var() + v.eps), v.x - v.x.mean())
        ),
        "It uses running statistics that start at 0 and 1: in training, use those of the batch.": (
            lambda v: _y(v, np.sqrt(1 + v.eps), v.x)
        ),
        "It uses running statistics, updated once: in training, use those of the batch.": (
            lambda v: _y(v, np.sqrt(0.9 + 0.1 * v.var + v.eps), v.x - 0.1 * v.mean(v.x))
        ),
        "It uses running statistics, updated once with Bessel's correction: in training, use "
        "those of the batch.": lambda v: _y(
            v, np.sqrt(0.9 + 0.1 * v.var * v.n / (v.n - 1) + v.eps), v.x - 0.1 * v.mean(v.x)
        ),
    },
    "x": {
        "The term of the mean, − r mean(dX̂), is missing.": (
            lambda v: v.r * (v.dx_hat - v.through_var)
        ),
        "The term of the variance, − r x̂ mean(dX̂ x̂), is missing.": (
            lambda v: v.r * (v.dx_hat - v.through_mean)
        ),
        "The mean and the variance are taken for constants: both depend on x.": (
            lambda v: v.r * v.dx_hat
        ),
        "γ is forgotten: dX̂ is γ dY.": lambda v: _dx(v, dx_hat=v.dout),
        "γ is multiplied twice.": lambda v: _dx(v, dx_hat=v.gamma * v.dx_hat),
        "The factor r = 1/√(σ² + ε) in front is forgotten.": lambda v: _dx(v, r=1.0),
        "The factor in front is 1/(σ² + ε), without the root.": lambda v: _dx(v, r=v.r**2),
        "The root is forgotten: r is 1/√(σ² + ε).": lambda v: _dx_with_r(v, v.r**2),
        "ε is forgotten.": lambda v: _dx_with_r(v, 1 / np.sqrt(v.var)),
        "ε is outside of the root.": lambda v: _dx_with_r(v, 1 / (np.sqrt(v.var) + v.eps)),
        "The argument eps is not used: it is always 1e-5.": (
            lambda v: _dx_with_r(v, 1 / np.sqrt(v.var + 1e-5))
        ),
        "Both terms have the wrong sign: they are subtracted.": (
            lambda v: v.r * (v.dx_hat + v.through_mean + v.through_var)
        ),
        "The term of the mean has the wrong sign.": (
            lambda v: v.r * (v.dx_hat + v.through_mean - v.through_var)
        ),
        "The term of the variance has the wrong sign.": (
            lambda v: v.r * (v.dx_hat - v.through_mean + v.through_var)
        ),
        "The term of the variance is twice as large: its 2/N and its −½ make 1/N.": (
            lambda v: v.r * (v.dx_hat - v.through_mean - 2 * v.through_var)
        ),
        "The term of the variance is half as large: its 2/N and its −½ make 1/N.": (
            lambda v: v.r * (v.dx_hat - v.through_mean - v.through_var / 2)
        ),
        "The term of the variance lacks the factor x̂ in front of its mean.": (
            lambda v: v.r * (v.dx_hat - v.through_mean - v.mean(v.dx_hat * v.x_hat))
        ),
        "The sums over dX̂ and dX̂ x̂ are not divided by N.": (
            lambda v: _dx(v, mean=lambda a: v.n * v.mean(a))
        ),
        "The sum over dX̂ is not divided by N.": (
            lambda v: v.r * (v.dx_hat - v.n * v.through_mean - v.through_var)
        ),
        "The sum over dX̂ x̂ is not divided by N.": (
            lambda v: v.r * (v.dx_hat - v.through_mean - v.n * v.through_var)
        ),
        "Bessel's correction: the sums are divided by N − 1, not by N.": (
            lambda v: _dx(v, mean=lambda a: v.n / (v.n - 1) * v.mean(a))
        ),
        "The sums over dX̂ and dX̂ x̂ are swapped.": (
            lambda v: v.r * (v.dx_hat - v.mean(v.dx_hat * v.x_hat) - v.x_hat * v.through_mean)
        ),
        "The mean is not subtracted in x̂.": lambda v: _dx(v, x_hat=v.x * v.r),
        "The sums run along the wrong axis.": (
            lambda v: _dx(v, mean=lambda a: a.mean(axis=1 - v.axis, keepdims=True))
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
        "x stands in place of x̂: it is not normalised.": lambda v: (v.dout * v.x).sum(axis=0),
        "x − μ stands in place of x̂: it is not divided by √(σ² + ε).": (
            lambda v: (v.dout * v.centred).sum(axis=0)
        ),
        "The mean is not subtracted in x̂.": lambda v: (v.dout * v.x * v.r).sum(axis=0),
        "It is multiplied by γ.": lambda v: (v.dx_hat * v.x_hat).sum(axis=0),
        "It is dβ: the factor x̂ is missing.": lambda v: v.dout.sum(axis=0),
    },
    "beta": {
        "It is not summed over the batch.": lambda v: v.dout,
        "It is summed over the features, not over the samples.": lambda v: v.dout.sum(axis=1),
        "It is multiplied by γ.": lambda v: v.dx_hat.sum(axis=0),
        "It is dγ: the factor x̂ does not belong here.": lambda v: (v.dout * v.x_hat).sum(axis=0),
    },
}
"""What the student did, and the answer that this leads to, by the name of the answer."""

LAYER_NORM = {
    **NORM,
    "output": {
        **NORM["output"],
        "The mean and the variance have the shape (B,), which broadcasts along the wrong axis: "
        "keep them (B, 1), by keepdim.": lambda v: _y(
            v, np.sqrt(v.var[:, 0] + v.eps), v.x - v.mean(v.x)[:, 0]
        ),
    },
}
"""Of layer normalization alone are those of a lost dimension, which does no harm to the other."""
