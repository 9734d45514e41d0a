"""A case for every layer of the NumPy reference: random parameters and input, the same in torch.

A builder takes a random generator and the sizes. `layer_class` is there to put a changed layer in
the place of the real one, and see the check fail.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cifar_lab.gradient_check.batch_norm_cases import (
    batch_norm,
    batch_norm_eval,
    batch_norm_images,
    batch_norm_two_samples,
)
from cifar_lab.gradient_check.case import (
    Case,
    LayerClass,
    Params,
    Rng,
    Shape,
    norm,
    randomised,
    spread,
)
from cifar_lab.numpy_reference.checks import Array
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.cross_entropy import CrossEntropy, SoftmaxCrossEntropy
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.flatten import Flatten
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.pooling import AvgPool, MaxPool
from cifar_lab.numpy_reference.relu import ReLU
from cifar_lab.numpy_reference.softmax import Softmax
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear

Window = tuple[int, int, int]


def linear(
    rng: Rng, b: int = 5, m: int = 4, n: int = 4, *, layer_class: LayerClass = Linear
) -> Case:
    """Linear layer: x (b, m) to (b, n). Square by default: a transposed gradient would fit."""

    def reference(x: Tensor, params: Params) -> Tensor:
        return functional.linear(x, params["weight"], params["bias"])

    return Case(randomised(layer_class(m, n), rng), rng.normal(size=(b, m)), reference)


def relu(rng: Rng, shape: Shape = (4, 5), *, layer_class: LayerClass = ReLU) -> Case:
    """Rectifier, away from its kink."""
    return Case(layer_class(), spread(rng, shape), lambda x, _: torch.relu(x))


def relu_at_zero(rng: Rng, *, layer_class: LayerClass = ReLU) -> Case:
    """Rectifier at its kink, where only the convention can be compared."""
    x = rng.integers(-1, 2, (4, 5)).astype(np.float64)
    return Case(layer_class(), x, lambda x, _: torch.relu(x), smooth=False)


def softmax(rng: Rng, b: int = 4, c: int = 5, *, layer_class: LayerClass = Softmax) -> Case:
    """Softmax of x (b, c)."""

    def terms(x: Array, params: dict[str, Array], dout: Array) -> dict[str, float]:
        return {"x": norm(Softmax().forward(x) * dout)}

    x = 2 * rng.normal(size=(b, c))
    return Case(layer_class(), x, lambda x, _: torch.softmax(x, dim=1), terms=terms)


def cross_entropy(
    rng: Rng, b: int = 4, c: int = 5, *, layer_class: LayerClass = CrossEntropy
) -> Case:
    """Cross entropy of probabilities (b, c) under one-hot targets."""
    p = rng.uniform(0.05, 1.0, (b, c))  # rows need not sum to 1
    t = np.eye(c)[rng.integers(0, c, b)]

    def reference(x: Tensor, _: Params) -> Tensor:
        return -(torch.tensor(t) * torch.log(x)).sum(dim=1).mean()

    return Case(layer_class(), p, reference, args=(t,), is_loss=True)


def softmax_cross_entropy(
    rng: Rng, b: int = 4, c: int = 5, *, layer_class: LayerClass = SoftmaxCrossEntropy
) -> Case:
    """Softmax and cross entropy of logits (b, c) under class indices, in one."""
    targets = rng.integers(0, c, b)

    def reference(x: Tensor, _: Params) -> Tensor:
        return functional.cross_entropy(x, torch.tensor(targets))

    x = 2 * rng.normal(size=(b, c))
    return Case(layer_class(), x, reference, args=(targets,), is_loss=True)


def dropout(rng: Rng, shape: Shape = (4, 5), *, layer_class: LayerClass = Dropout) -> Case:
    """Dropout with a given mask."""
    x = rng.normal(size=shape)
    mask = rng.random(x.shape) >= 0.3
    return Case(layer_class(0.3), x, lambda x, _: x * torch.tensor(mask) / 0.7, args=(mask,))


def weight_norm(
    rng: Rng, b: int = 5, m: int = 4, n: int = 3, *, layer_class: LayerClass = WeightNormLinear
) -> Case:
    """Weight-normalised linear layer: x (b, m) to (b, n)."""

    def reference(x: Tensor, params: Params) -> Tensor:
        v = params["v"]
        weight = params["g"] * v / torch.linalg.vector_norm(v, dim=1, keepdim=True)
        return functional.linear(x, weight, params["bias"])

    def terms(x: Array, params: dict[str, Array], dout: Array) -> dict[str, float]:
        length = np.linalg.norm(params["v"], axis=1, keepdims=True)
        return {"v": norm(params["g"] / length * (dout.T @ x))}

    layer = randomised(layer_class(m, n, std=1.0), rng)
    layer.params["v"] = spread(rng, (n, m))  # no direction so short that a difference turns it
    return Case(layer, rng.normal(size=(b, m)), reference, terms=terms)


def conv(
    rng: Rng, shape: Shape = (2, 3, 4, 5), k: int = 3, *, layer_class: LayerClass = Conv3x3
) -> Case:
    """Convolution of x in `shape` to k channels; by default as many as it has, as for `linear`."""

    def reference(x: Tensor, params: Params) -> Tensor:
        return functional.conv2d(x, params["weight"], params["bias"], padding=1)

    return Case(randomised(layer_class(shape[1], k), rng), rng.normal(size=shape), reference)


def max_pool(
    rng: Rng,
    shape: Shape = (2, 2, 5, 4),
    window: Window = (3, 2, 1),
    *,
    layer_class: LayerClass = MaxPool,
) -> Case:
    """Max pooling away from ties; the window is (kernel, stride, padding)."""
    k, s, p = window
    x = spread(rng, shape)
    return Case(layer_class(k, s, p), x, lambda x, _: functional.max_pool2d(x, k, s, p))


def max_pool_ties(rng: Rng, *, layer_class: LayerClass = MaxPool) -> Case:
    """Max pooling of few different numbers, where only the convention can be compared."""
    x = rng.integers(0, 2, (2, 2, 6, 6)).astype(np.float64)
    reference = max_pool(rng).reference
    return Case(layer_class(3, 2, 1), x, reference, smooth=False)


def avg_pool(
    rng: Rng,
    shape: Shape = (2, 2, 5, 4),
    window: Window = (3, 2, 1),
    *,
    layer_class: LayerClass = AvgPool,
) -> Case:
    """Average pooling; the window is (kernel, stride, padding)."""
    k, s, p = window
    x = rng.normal(size=shape)
    return Case(layer_class(k, s, p), x, lambda x, _: functional.avg_pool2d(x, k, s, p))


def flatten(rng: Rng, shape: Shape = (2, 3, 2, 2), *, layer_class: LayerClass = Flatten) -> Case:
    """Images to rows."""
    return Case(layer_class(), rng.normal(size=shape), lambda x, _: x.flatten(1))


CASES: dict[str, Callable[[Rng], Case]] = {
    "linear": linear,
    "relu": relu,
    "relu_at_zero": relu_at_zero,
    "softmax": softmax,
    "cross_entropy": cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
    "batch_norm": batch_norm,
    "batch_norm_images": batch_norm_images,
    "batch_norm_two_samples": batch_norm_two_samples,
    "batch_norm_eval": batch_norm_eval,
    "dropout": dropout,
    "weight_norm": weight_norm,
    "conv": conv,
    "max_pool": max_pool,
    "max_pool_ties": max_pool_ties,
    "avg_pool": avg_pool,
    "flatten": flatten,
}
"""Name to builder: what `scripts/check_gradients.py` checks of the NumPy reference."""
