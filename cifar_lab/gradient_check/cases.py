"""A case for every layer of the NumPy reference, with random parameters and a random input.

Each builder takes a random generator and sizes: b samples, c classes, m and n features, or a shape.
Tests pass a wrong layer as ``layer_class`` and assert that the check fails.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cifar_lab.gradient_check.case import Case, LayerClass, Params, Rng, Shape, randomised, spread
from cifar_lab.numpy_reference.activations import ELU, LeakyReLU, ReLU, Softmax
from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.cross_entropy import CrossEntropy, SoftmaxCrossEntropy
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.layer import Array
from cifar_lab.numpy_reference.layer_norm import LayerNorm
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.pooling import AvgPool, Flatten, MaxPool
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear

EPS = 1e-5  # of batch and layer normalization
IMAGES = (2, 2, 5, 4)
WINDOW = (3, 2, 1)  # kernel, stride and padding of a pooling


def linear(
    rng: Rng, b: int = 5, m: int = 4, n: int = 4, *, layer_class: LayerClass = Linear
) -> Case:
    """Build a linear layer. By default a transposed gradient would fit."""

    def reference(x: Tensor, params: Params) -> Tensor:
        return functional.linear(x, params["weight"], params["bias"])

    return Case(randomised(layer_class(m, n), rng), rng.normal(size=(b, m)), reference)


def relu(rng: Rng, shape: Shape = (4, 5), *, layer_class: LayerClass = ReLU) -> Case:
    """Build a ReLU away from its kink."""
    return Case(layer_class(), spread(rng, shape), lambda x, _: torch.relu(x))


def leaky_relu(
    rng: Rng, shape: Shape = (4, 5), slope: float = 0.2, *, layer_class: LayerClass = LeakyReLU
) -> Case:
    """Build a leaky ReLU away from its kink."""
    x = spread(rng, shape)
    return Case(layer_class(slope), x, lambda x, _: functional.leaky_relu(x, slope))


def elu(
    rng: Rng, shape: Shape = (4, 5), alpha: float = 0.5, *, layer_class: LayerClass = ELU
) -> Case:
    """Build an ELU away from its kink."""
    return Case(layer_class(alpha), spread(rng, shape), lambda x, _: functional.elu(x, alpha))


def at_zero(build: Callable[..., Case], rng: Rng, *, layer_class: LayerClass) -> Case:
    """Build an activation at its kink, where only the convention can be compared."""
    x = rng.integers(-1, 2, (4, 5)).astype(np.float64)
    return replace(build(rng, layer_class=layer_class), x=x, smooth=False)


def softmax(rng: Rng, b: int = 4, c: int = 5, *, layer_class: LayerClass = Softmax) -> Case:
    """Build a softmax of logits."""

    def terms(x: Array, params: dict[str, Array], dout: Array) -> dict[str, Array]:
        return {"x": Softmax().forward(x) * dout}

    x = 2 * rng.normal(size=(b, c))
    return Case(layer_class(), x, lambda x, _: torch.softmax(x, dim=1), terms=terms)


def cross_entropy(
    rng: Rng, b: int = 4, c: int = 5, *, layer_class: LayerClass = CrossEntropy
) -> Case:
    """Build a cross entropy of probabilities under one-hot targets."""
    p = rng.uniform(0.05, 1.0, (b, c))  # rows need not sum to 1
    t = np.eye(c)[rng.integers(0, c, b)]

    def reference(x: Tensor, _: Params) -> Tensor:
        return -(torch.tensor(t) * torch.log(x)).sum(dim=1).mean()

    return Case(layer_class(), p, reference, args=(t,), is_loss=True)


def softmax_cross_entropy(
    rng: Rng, b: int = 4, c: int = 5, *, layer_class: LayerClass = SoftmaxCrossEntropy
) -> Case:
    """Build softmax and cross entropy in one, of logits under class indices."""
    targets = rng.integers(0, c, b)

    def reference(x: Tensor, _: Params) -> Tensor:
        return functional.cross_entropy(x, torch.tensor(targets))

    x = 2 * rng.normal(size=(b, c))
    return Case(layer_class(), x, reference, args=(targets,), is_loss=True)


def batch_norm(
    rng: Rng, shape: Shape = (5, 3), eps: float = EPS, *, layer_class: LayerClass = BatchNorm
) -> Case:
    """Build batch normalization of rows or images with the statistics of the batch."""
    x = spread(rng, shape)
    layer = randomised(layer_class(shape[1], eps=eps), rng)
    reference = partial(batch_norm_reference, eps=eps)
    return Case(layer, x, reference, terms=partial(batch_norm_terms, eps=eps))


def batch_norm_reference(x: Tensor, params: Params, eps: float = EPS) -> Tensor:
    """Normalise in elementary operations, as ``functional.batch_norm`` refuses a batch of one."""
    axes, shape = _per_channel(x.ndim)
    centred = x - x.mean(axes, keepdim=True)
    x_hat = centred / ((centred**2).mean(axes, keepdim=True) + eps).sqrt()
    return x_hat * params["gamma"].reshape(shape) + params["beta"].reshape(shape)


def batch_norm_terms(
    x: Array, params: dict[str, Array], dout: Array, eps: float = EPS
) -> dict[str, Array]:
    """Return the terms of the gradients of ``x`` and ``gamma``; see ``Case.terms``."""
    axes, shape = _per_channel(x.ndim)
    scaled = dout / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    return {"x": params["gamma"].reshape(shape) * scaled, "gamma": scaled * x}


def _per_channel(ndim: int) -> tuple[Shape, Shape]:
    """Return the axes to reduce in rows or images, and the shape of an array per channel."""
    return ((0,), (1, -1)) if ndim == 2 else ((0, 2, 3), (1, -1, 1, 1))


def batch_norm_eval(
    rng: Rng, shape: Shape = (4, 3), *, layer_class: LayerClass = BatchNorm
) -> Case:
    """Build batch normalization with running statistics, which are constants."""
    x = rng.normal(size=shape)
    layer = randomised(layer_class(shape[1], eps=EPS), rng)
    layer.running_mean, layer.running_var = rng.normal(size=(2, shape[1])) ** 2
    layer.training = False
    mean, var = torch.tensor(layer.running_mean), torch.tensor(layer.running_var)

    def reference(x: Tensor, params: Params) -> Tensor:
        return functional.batch_norm(x, mean, var, params["gamma"], params["beta"], eps=EPS)

    return Case(layer, x, reference)


def layer_norm(
    rng: Rng, shape: Shape = (4, 5), eps: float = EPS, *, layer_class: LayerClass = LayerNorm
) -> Case:
    """Build layer normalization, which normalises each row of x."""

    def reference(x: Tensor, params: Params) -> Tensor:
        return functional.layer_norm(x, shape[1:], params["gamma"], params["beta"], eps)

    def terms(x: Array, params: dict[str, Array], dout: Array) -> dict[str, Array]:
        scaled = dout / np.sqrt(x.var(axis=1, keepdims=True) + eps)
        return {"x": params["gamma"] * scaled, "gamma": scaled * x}

    layer = randomised(layer_class(shape[1], eps=eps), rng)
    return Case(layer, spread(rng, shape), reference, terms=terms)


def dropout(rng: Rng, shape: Shape = (4, 5), *, layer_class: LayerClass = Dropout) -> Case:
    """Build a dropout with a given mask."""
    x = rng.normal(size=shape)
    mask = rng.random(x.shape) >= 0.3
    return Case(layer_class(0.3), x, lambda x, _: x * torch.tensor(mask) / 0.7, args=(mask,))


def weight_norm(
    rng: Rng, b: int = 5, m: int = 4, n: int = 3, *, layer_class: LayerClass = WeightNormLinear
) -> Case:
    """Build a weight-normalised linear layer."""

    def reference(x: Tensor, params: Params) -> Tensor:
        v = params["v"]
        weight = params["g"] * v / torch.linalg.vector_norm(v, dim=1, keepdim=True)
        return functional.linear(x, weight, params["bias"])

    def terms(x: Array, params: dict[str, Array], dout: Array) -> dict[str, Array]:
        length = np.linalg.norm(params["v"], axis=1, keepdims=True)
        return {"v": params["g"] / length * (dout.T @ x)}

    layer = randomised(layer_class(m, n, std=1.0), rng)
    layer.params["v"] = spread(rng, (n, m))  # long enough that a small step hardly turns it
    return Case(layer, rng.normal(size=(b, m)), reference, terms=terms)


def conv(
    rng: Rng, shape: Shape = (2, 3, 4, 5), k: int = 3, *, layer_class: LayerClass = Conv3x3
) -> Case:
    """Build a convolution of images to k channels, by default as many as the images have."""

    def reference(x: Tensor, params: Params) -> Tensor:
        return functional.conv2d(x, params["weight"], params["bias"], padding=1)

    return Case(randomised(layer_class(shape[1], k), rng), rng.normal(size=shape), reference)


def max_pool(
    rng: Rng, shape: Shape = IMAGES, window: Shape = WINDOW, *, layer_class: LayerClass = MaxPool
) -> Case:
    """Build a max pooling without ties."""
    k, s, p = window
    x = spread(rng, shape)
    return Case(layer_class(k, s, p), x, lambda x, _: functional.max_pool2d(x, k, s, p))


def max_pool_ties(rng: Rng, *, layer_class: LayerClass = MaxPool) -> Case:
    """Build a max pooling with many ties, where only the convention can be compared."""
    x = rng.integers(0, 2, (2, 2, 6, 6)).astype(np.float64)
    return Case(layer_class(*WINDOW), x, max_pool(rng).reference, smooth=False)


def avg_pool(
    rng: Rng, shape: Shape = IMAGES, window: Shape = WINDOW, *, layer_class: LayerClass = AvgPool
) -> Case:
    """Build an average pooling."""
    k, s, p = window
    x = rng.normal(size=shape)
    return Case(layer_class(k, s, p), x, lambda x, _: functional.avg_pool2d(x, k, s, p))


def flatten(rng: Rng, shape: Shape = (2, 3, 2, 2), *, layer_class: LayerClass = Flatten) -> Case:
    """Build a flattening of images to rows."""
    return Case(layer_class(), rng.normal(size=shape), lambda x, _: x.flatten(1))


CASES: dict[str, Callable[[Rng], Case]] = {
    "linear": linear,
    "relu": relu,
    "relu_at_zero": partial(at_zero, relu, layer_class=ReLU),
    "leaky_relu": leaky_relu,
    "leaky_relu_at_zero": partial(at_zero, leaky_relu, layer_class=LeakyReLU),
    "elu": elu,
    "elu_at_zero": partial(at_zero, elu, layer_class=ELU),
    "softmax": softmax,
    "cross_entropy": cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
    "batch_norm": batch_norm,
    "batch_norm_images": partial(batch_norm, shape=(2, 3, 3, 2)),
    "batch_norm_two_samples": partial(batch_norm, shape=(2, 3)),  # dx nearly cancels
    "batch_norm_eval": batch_norm_eval,
    "layer_norm": layer_norm,
    "layer_norm_two_features": partial(layer_norm, shape=(3, 2)),  # dx nearly cancels
    "dropout": dropout,
    "weight_norm": weight_norm,
    "conv": conv,
    "max_pool": max_pool,
    "max_pool_ties": max_pool_ties,
    "avg_pool": avg_pool,
    "flatten": flatten,
}
