"""The catalogue of mistakes in layers written by hand, each as a function of the layer's inputs.

A mistaken variant computes what a layer with that mistake would return. ``diagnosis.py`` compares
the answers of a student's layer with them, and the tests check that no variant passes the proof.

To add a mistake, add an entry: what the student did, in a sentence, and the variant. It takes the
inputs ``v`` of ``inputs_of``: ``x``, ``dout``, the parameters by name, the batch size ``b``, and
for some layers more. ``v.right`` is the right answer, ``v.before`` that of the call before, and
``v.stale`` the one that the input of the call before would have.
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

# Mistakes in the gradients of any layer, tried after those of the layer.
GENERAL: Variants = {
    "It has the wrong sign.": lambda v: -v.right,
    "It is transposed.": lambda v: v.right.T,
    "It is {b} times too large in a batch of {b}: a mean over the batch, the factor 1/B, is "
    "forgotten.": lambda v: v.right * v.b,
    "It is {b} times too small in a batch of {b}: it is divided by B once too often. Sum over the "
    "batch; the mean is taken once, in the loss.": lambda v: v.right / v.b,
    "It has the wrong sign, and is {b} times too large in a batch of {b}.": (
        lambda v: -v.right * v.b
    ),
    "It has the wrong sign, and is {b} times too small in a batch of {b}.": (
        lambda v: -v.right / v.b
    ),
    "It is added to the gradient of the call before: overwrite it instead.": (
        lambda v: v.right + v.before
    ),
    "It is still that of the call before.": lambda v: v.before,
    "It is computed with the input of the call before: keep the input of every forward pass.": (
        lambda v: v.stale
    ),
    "It is zero everywhere: it is never computed.": lambda v: np.zeros_like(v.right),
    "It is the derivative of the layer alone, not multiplied by dY.": lambda v: v.right / v.dout,
}

# Mistakes that are made together with one of the layer.
FACTORS: dict[str, Callable[[float], float]] = {
    "The sign is wrong as well.": lambda b: -1.0,
    "It is {b} times too large as well, in a batch of {b}.": lambda b: b,
    "It is divided by the batch size {b} as well.": lambda b: 1 / b,
}

LINEAR: dict[str, Variants] = {
    "output": {
        "The bias is forgotten.": lambda v: v.x @ v.weight.T,
        "W is not transposed.": lambda v: v.x @ v.weight + v.bias,
        "The bias is subtracted.": lambda v: v.x @ v.weight.T - v.bias,
    },
    "x": {
        "W is transposed.": lambda v: v.dout @ v.weight.T,
        "The bias is added: it is a constant, whose derivative is 0.": (
            lambda v: v.dout @ v.weight + v.bias
        ),
    },
    "weight": {
        "It is transposed.": lambda v: v.x.T @ v.dout,
        "X and dY are multiplied without a transpose.": lambda v: v.dout @ v.x,
        "Only the last sample counts: sum over the batch, with += in a loop.": (
            lambda v: np.outer(v.dout[-1], v.x[-1])
        ),
    },
    "bias": {
        "It is not summed over the batch.": lambda v: v.dout,
        "It is summed over the outputs, not over the samples.": lambda v: v.dout.sum(axis=1),
        "It is summed over everything.": lambda v: v.dout.sum(),
        "Only the last sample counts: sum over the batch, with += in a loop.": lambda v: v.dout[-1],
        "It is the number of samples, not multiplied by dY.": lambda v: np.full_like(v.bias, v.b),
    },
}

RELU: dict[str, Variants] = {
    "output": {
        "Negative numbers are kept, positive ones are cut off.": lambda v: np.minimum(v.x, 0),
        "It is the absolute value.": lambda v: np.abs(v.x),
        "It is the mask, not multiplied by X.": lambda v: 1.0 * (v.x > 0),
    },
    "x": {
        "The mask is that of dY: take the one of the input X.": lambda v: v.dout * (v.dout > 0),
        "There is no mask: dY passes everywhere.": lambda v: v.dout,
        "The mask is the wrong way round.": lambda v: v.dout * (v.x <= 0),
        "It is multiplied by X, not by the mask X > 0.": lambda v: v.dout * np.maximum(v.x, 0),
    },
}

LEAKY_RELU: dict[str, Variants] = {
    "output": {
        "Negative numbers are cut off, as in ReLU.": lambda v: np.maximum(v.x, 0),
        "The slope argument is not used: it is 0.01.": lambda v: np.where(v.x > 0, v.x, v.x / 100),
        "The slope is not multiplied by X.": lambda v: np.where(v.x > 0, v.x, v.slope),
    },
    "x": {
        "The mask is that of dY: take the one of the input X.": (
            lambda v: np.where(v.dout > 0, v.dout, v.slope * v.dout)
        ),
        "Nothing passes below 0, as in ReLU.": lambda v: v.dout * (v.x > 0),
        "There is no mask: dY passes everywhere.": lambda v: v.dout,
        "The slope argument is not used: it is 0.01.": (
            lambda v: np.where(v.x > 0, v.dout, v.dout / 100)
        ),
        "The slope is not multiplied by dY.": lambda v: np.where(v.x > 0, v.dout, v.slope),
    },
}

ELU: dict[str, Variants] = {
    "output": {
        "α is forgotten.": lambda v: np.where(v.x > 0, v.x, np.exp(v.x) - 1),
        "The −1 is forgotten.": lambda v: np.where(v.x > 0, v.x, v.alpha * np.exp(v.x)),
        "The −1 stands outside of the bracket.": (
            lambda v: np.where(v.x > 0, v.x, v.alpha * np.exp(v.x) - 1)
        ),
        "Negative numbers are cut off, as in ReLU.": lambda v: np.maximum(v.x, 0),
    },
    "x": {
        "α is forgotten.": lambda v: v.dout * np.where(v.x > 0, 1, np.exp(v.x)),
        "Below 0 the factor is y; it is y + α.": (
            lambda v: v.dout * np.where(v.x > 0, 1, v.alpha * np.expm1(v.x))
        ),
        "The mask is that of dY: take the one of the input X.": (
            lambda v: v.dout * np.where(v.dout > 0, 1, v.alpha * np.exp(v.x))
        ),
        "Nothing passes below 0, as in ReLU.": lambda v: v.dout * (v.x > 0),
        "Below 0 the factor is y + 1; it is y + α.": (
            lambda v: v.dout * np.where(v.x > 0, 1, v.alpha * np.expm1(v.x) + 1)
        ),
        "Below 0 the factor is α; it is α exp(X).": (
            lambda v: v.dout * np.where(v.x > 0, 1, v.alpha)
        ),
        "Below 0 it is not multiplied by dY.": (
            lambda v: np.where(v.x > 0, v.dout, v.alpha * np.exp(v.x))
        ),
        "There is no mask: dY passes everywhere.": lambda v: v.dout,
    },
}

SOFTMAX: dict[str, Variants] = {
    "output": {
        "Large numbers overflow: subtract the largest of each row first.": (
            lambda v: np.exp(v.x) / np.exp(v.x).sum(axis=1, keepdims=True)
        ),
        "The sum runs over the batch, not over the classes.": (
            lambda v: v.e / v.e.sum(axis=0, keepdims=True)
        ),
        "The sum runs over everything, not over the classes of a sample.": lambda v: (
            v.e / v.e.sum()
        ),
        "It is not divided by the sum.": lambda v: v.e,
        "It is the logarithm of the softmax.": lambda v: np.log(v.p),
    },
    "x": {
        "Only the diagonal of the Jacobian is there, p_j (1 − p_j): the terms −p_i p_j off it are "
        "missing.": lambda v: v.p * (1 - v.p) * v.dout,
        "The term −p pᵀ of the Jacobian diag(p) − p pᵀ is missing.": lambda v: v.p * v.dout,
        "The term diag(p) of the Jacobian diag(p) − p pᵀ is missing.": lambda v: -v.p * v.dot,
        "The terms of the Jacobian are added: it is diag(p) − p pᵀ.": (
            lambda v: v.p * (v.dout + v.dot)
        ),
        "The terms off the diagonal have the wrong sign: they are −p_i p_j.": (
            lambda v: v.p * (v.dout - 2 * v.p * v.dout + v.dot)
        ),
        "The sum runs over the batch, not over the classes.": (
            lambda v: v.p * (v.dout - (v.dout * v.p).sum(axis=0, keepdims=True))
        ),
        "The sum runs over everything, not over the classes of a sample.": (
            lambda v: v.p * (v.dout - (v.dout * v.p).sum())
        ),
        "The sum lacks the factor p_i.": (
            lambda v: v.p * (v.dout - v.dout.sum(axis=1, keepdims=True))
        ),
        "The factor p_j in front is missing.": lambda v: v.dout - v.dot,
    },
}

CROSS_ENTROPY: dict[str, Variants] = {
    "output": {
        "It is {b} times too large in a batch of {b}: it is the sum over the batch, not the "
        "mean.": lambda v: v.right * v.b,
        "The labels are off by one: class k is taken for k − 1.": (
            lambda v: -np.log(v.p[v.rows, v.labels - 1]).mean()
        ),
        "The labels are off by one: class k is taken for k + 1.": (
            lambda v: -np.log(v.p[v.rows, v.labels + 1]).mean()
        ),
        "The labels are off by one: class k is taken for k + 1, and the last for the first.": (
            lambda v: -np.log(v.p[v.rows, (v.labels + 1) % v.c]).mean()
        ),
        "The minus is forgotten.": lambda v: -v.right,
        "The mean runs over samples and classes: {b}·C entries in place of {b}.": (
            lambda v: v.right / v.c
        ),
        "The logarithm has base 2.": lambda v: v.right / np.log(2),
        "The logarithm has base 10.": lambda v: v.right / np.log(10),
        "The term (1 − t) log(1 − p) belongs to two classes.": (
            lambda v: -(v.t * np.log(v.p) + (1 - v.t) * np.log(1 - v.p)).sum() / v.b
        ),
        "The logarithm is missing.": lambda v: -(v.t * v.p).sum() / v.b,
    },
    "x": {
        "The labels are off by one: class k is taken for k − 1.": (
            lambda v: -np.eye(v.c)[v.labels - 1] / v.p / v.b
        ),
        "The labels are off by one: class k is taken for k + 1.": (
            lambda v: -np.eye(v.c)[v.labels + 1] / v.p / v.b
        ),
        "The labels are off by one: class k is taken for k + 1, and the last for the first.": (
            lambda v: -np.eye(v.c)[(v.labels + 1) % v.c] / v.p / v.b
        ),
        "It is divided by samples and classes: B·C in place of B = {b}.": (lambda v: v.right / v.c),
        "This is the gradient of the logits, of softmax and cross entropy in one.": (
            lambda v: (v.p - v.t) / v.b
        ),
        "This is the gradient of the logits, of softmax and cross entropy in one, and 1/B is "
        "forgotten.": lambda v: v.p - v.t,
        "The targets are forgotten: only the right class has a gradient.": lambda v: -1 / v.p / v.b,
        "It is −t/B, not divided by p.": lambda v: -v.t / v.b,
        "It is multiplied by p in place of divided.": lambda v: -v.t * v.p / v.b,
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
"""The variants of a layer's answers, by layer, name of the answer, and what the student did."""


def mistakes_in(layer: str, name: str) -> Variants:
    """Return the variants of an answer: those of the layer, the general ones, then two at once."""
    own = CATALOGUE[layer].get(name, {})
    both = {
        f"{text} {more}": _times(variant, factor)
        for text, variant in own.items()
        for more, factor in FACTORS.items()
    }
    return {**own, **GENERAL, **both}


def _times(variant: Variant, factor: Callable[[float], float]) -> Variant:
    return lambda v: factor(v.b) * variant(v)


def inputs_of(layer: str, case: Case, dout: Array, right: Array) -> SimpleNamespace:
    """Return what the variants of a layer's answers are functions of.

    Without a call before, it counts as one whose answers were the same.
    """
    v = SimpleNamespace(x=case.x, dout=dout, b=len(case.x), right=right, before=right, stale=right)
    vars(v).update(case.params)
    if layer == "leaky_relu":
        v.slope = case.layer.negative_slope
    elif layer == "elu":
        v.alpha = case.layer.alpha
    elif layer == "softmax":
        v.e = np.exp(v.x - v.x.max(axis=1, keepdims=True))
        v.p = v.e / v.e.sum(axis=1, keepdims=True)
        v.dot = (dout * v.p).sum(axis=1, keepdims=True)
    elif layer == "cross_entropy":
        v.p, v.t = case.x, case.args[0]
        v.rows, v.labels, v.c = np.arange(v.b), v.t.argmax(axis=1), v.t.shape[1]
    elif layer in ("batch_norm", "layer_norm"):
        add_statistics(v, axis=0 if layer == "batch_norm" else 1, eps=case.layer.eps)
    return v
