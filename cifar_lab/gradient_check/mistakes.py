"""The catalogue of mistakes in layers written by hand, each as a function of the layer's inputs.

A variant computes what a layer with the mistake would return. ``diagnosis.py`` compares the answers
of a student's layer with the variants, and the tests check that no variant passes the check.

To add a mistake, add an entry: what the student did, in a sentence, and the variant. A variant is a
function of the inputs ``v`` that ``inputs_of`` collects: ``x``, ``dout``, the parameters by their
names, the batch size ``b``, the right answer ``right``, and more for some layers.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from cifar_lab.gradient_check.case import Case
from cifar_lab.gradient_check.norm_mistakes import LAYER_NORM, NORM, add_statistics
from cifar_lab.numpy_reference.layer import Array

Variant = Callable[[Any], Any]
Variants = dict[str, Variant]

GENERAL: Variants = {
    "It has the wrong sign.": lambda v: -v.right,
    "It is transposed.": lambda v: v.right.T,
    "It is {b} times too large in a batch of {b}: the factor 1/B of the mean over the batch is "
    "forgotten.": lambda v: v.right * v.b,
    "It is {b} times too small in a batch of {b}: it is divided by B once too often. Take the sum "
    "over the batch, because the loss takes the mean already.": lambda v: v.right / v.b,
    "It is added to the result of the previous call: overwrite it.": lambda v: v.right + v.before,
    "It is zero everywhere: it is never computed.": lambda v: np.zeros_like(v.right),
    "It is not multiplied by dY.": lambda v: v.right / v.dout,
}
"""Mistakes in the answers of any layer, which are tried after those of the layer itself."""

LINEAR: dict[str, Variants] = {
    "output": {
        "The bias is forgotten.": lambda v: v.x @ v.weight.T,
        "W is not transposed.": lambda v: v.x @ v.weight + v.bias,
    },
    "x": {"W is transposed.": lambda v: v.dout @ v.weight.T},
    "weight": {
        "Only the last sample counts: add up in a loop.": lambda v: np.outer(v.dout[-1], v.x[-1]),
    },
    "bias": {
        "It is not summed over the batch.": lambda v: v.dout,
        "It is summed over the outputs, not over the samples.": lambda v: v.dout.sum(axis=1),
        "It is summed over everything.": lambda v: v.dout.sum(),
        "Only the last sample counts: add up in a loop.": lambda v: v.dout[-1],
    },
}

RELU: dict[str, Variants] = {
    "output": {
        "Positive numbers are cut off in place of negative ones.": lambda v: np.minimum(v.x, 0),
        "It is the mask X > 0, not multiplied by X.": lambda v: 1.0 * (v.x > 0),
    },
    "x": {
        "The mask is that of dY: use the one of the input X.": lambda v: v.dout * (v.dout > 0),
        "There is no mask: dY passes everywhere.": lambda v: v.dout,
        "The mask is the wrong way round.": lambda v: v.dout * (v.x <= 0),
        "dY is multiplied by Y in place of the mask X > 0.": lambda v: v.dout * np.maximum(v.x, 0),
    },
}

LEAKY_RELU: dict[str, Variants] = {
    "output": {
        "Negative numbers are cut off, as in ReLU.": lambda v: np.maximum(v.x, 0),
        "The slope argument is not used: it is 0.01.": lambda v: np.where(v.x > 0, v.x, v.x / 100),
    },
    "x": {
        "The mask is that of dY: use the one of the input X.": (
            lambda v: np.where(v.dout > 0, v.dout, v.slope * v.dout)
        ),
        "Nothing passes below 0, as in ReLU.": lambda v: v.dout * (v.x > 0),
        "There is no mask: dY passes everywhere.": lambda v: v.dout,
        "Below 0 the slope is not multiplied by dY.": lambda v: np.where(v.x > 0, v.dout, v.slope),
    },
}

ELU: dict[str, Variants] = {
    "output": {
        "α is forgotten.": lambda v: np.where(v.x > 0, v.x, np.exp(v.x) - 1),
        "The −1 is forgotten.": lambda v: np.where(v.x > 0, v.x, v.a_exp),
        "The −1 is not multiplied by α.": lambda v: np.where(v.x > 0, v.x, v.a_exp - 1),
    },
    "x": {
        "α is forgotten.": lambda v: v.dout * np.where(v.x > 0, 1, np.exp(v.x)),
        "Below 0 the factor is Y; it should be α exp(X), which is Y + α.": (
            lambda v: v.dout * np.where(v.x > 0, 1, v.a_exp - v.alpha)
        ),
        "Below 0 the factor is Y + 1; it should be α exp(X), which is Y + α.": (
            lambda v: v.dout * np.where(v.x > 0, 1, v.a_exp - v.alpha + 1)
        ),
        "The mask is that of dY: use the one of the input X.": (
            lambda v: v.dout * np.where(v.dout > 0, 1, v.a_exp)
        ),
        "Nothing passes below 0, as in ReLU.": lambda v: v.dout * (v.x > 0),
        "There is no mask: dY passes everywhere.": lambda v: v.dout,
    },
}

SOFTMAX: dict[str, Variants] = {
    "output": {
        "Large numbers overflow: subtract the largest number of each row first.": (
            lambda v: np.exp(v.x) / np.exp(v.x).sum(axis=1, keepdims=True)
        ),
        "The sum runs over the batch, not over the classes.": lambda v: v.e / v.e.sum(axis=0),
        "The sum runs over the batch, not the classes.": lambda v: v.e_all / v.e_all.sum(axis=0),
        "The sum runs over all numbers, not over the classes.": lambda v: v.e / v.e.sum(),
        "The sum runs over all numbers, not the classes.": lambda v: v.e_all / v.e_all.sum(),
    },
    "x": {
        "Only the diagonal of the Jacobian is used, p_j (1 − p_j): the terms −p_i p_j off the "
        "diagonal are missing.": lambda v: v.p * (1 - v.p) * v.dout,
        "The term −p pᵀ of the Jacobian diag(p) − p pᵀ is missing.": lambda v: v.p * v.dout,
        "The term −p pᵀ of the Jacobian diag(p) − p pᵀ is added, not subtracted.": (
            lambda v: v.p * (v.dout + v.dot)
        ),
        "The sum runs over the batch, not over the classes.": (
            lambda v: v.p * (v.dout - (v.dout * v.p).sum(axis=0))
        ),
        "The sum runs over all numbers, not over the classes.": (
            lambda v: v.p * (v.dout - v.dot.sum())
        ),
        "The factor p_j in front is missing.": lambda v: v.dout - v.dot,
    },
}

PREVIOUS = "The labels are off by one: class k − 1 is used in place of class k."
NEXT = "The labels are off by one: class k + 1 is used in place of class k."

CROSS_ENTROPY: dict[str, Variants] = {
    "output": {
        PREVIOUS: lambda v: -np.log(v.p[v.rows, v.labels - 1]).mean(),
        NEXT: lambda v: -np.log(v.p[v.rows, v.labels + 1]).mean(),
        "The mean runs over the samples and the classes: divide by B, not by B·C.": (
            lambda v: v.right / v.c
        ),
        "It has the term (1 − t) log(1 − p), which belongs to two classes.": (
            lambda v: -(v.t * np.log(v.p) + (1 - v.t) * np.log(1 - v.p)).sum() / v.b
        ),
    },
    "x": {
        PREVIOUS: lambda v: -np.eye(v.c)[v.labels - 1] / v.p / v.b,
        NEXT: lambda v: -np.eye(v.c)[v.labels + 1] / v.p / v.b,
        "The mean runs over the samples and the classes: divide by B, not by B·C.": (
            lambda v: v.right / v.c
        ),
        "It is the gradient of the logits, as for softmax and cross entropy in one.": (
            lambda v: (v.p - v.t) / v.b
        ),
        "It is the gradient of the logits, and the factor 1/B is forgotten.": lambda v: v.p - v.t,
        "The targets are forgotten: only the right class has a gradient.": lambda v: -1 / v.p / v.b,
        "It is −t/B, not divided by p.": lambda v: -v.t / v.b,
    },
}

CATALOGUE: dict[str, dict[str, Variants]] = {
    "linear": LINEAR,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "softmax": SOFTMAX,
    "cross_entropy": CROSS_ENTROPY,
    "batch_norm": NORM,
    "layer_norm": LAYER_NORM,
}
"""The variants by layer, name of the answer, and mistake; "output" is the forward pass."""


def inputs_of(layer: str, case: Case, dout: Array, right: Array) -> SimpleNamespace:
    """Return the arguments of the variants of a layer's answer."""
    v = SimpleNamespace(x=case.x, dout=dout, b=len(case.x), right=right, **case.params)
    v.before = right  # the answer of the call before; callers may replace it
    if layer == "leaky_relu":
        v.slope = case.layer.negative_slope
    elif layer == "elu":
        v.alpha, v.a_exp = case.layer.alpha, case.layer.alpha * np.exp(v.x)
    elif layer == "softmax":
        v.e = np.exp(v.x - v.x.max(axis=1, keepdims=True))
        v.e_all = np.exp(v.x - v.x.max())  # subtracting one number for all is right as well
        v.p = v.e / v.e.sum(axis=1, keepdims=True)
        v.dot = (dout * v.p).sum(axis=1, keepdims=True)
    elif layer == "cross_entropy":
        v.p, v.t = case.x, case.args[0]
        v.rows, v.labels, v.c = np.arange(v.b), v.t.argmax(axis=1), v.t.shape[1]
    elif layer in ("batch_norm", "layer_norm"):
        add_statistics(v, axis=0 if layer == "batch_norm" else 1, eps=case.layer.eps)
    return v
