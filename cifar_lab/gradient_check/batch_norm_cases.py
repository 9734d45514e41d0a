"""The cases of batch normalization: images, two samples, running statistics.

Their reference is written in elementary torch operations, because PyTorch's own refuses a batch of
one.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cifar_lab.gradient_check.case import (
    Case,
    LayerClass,
    Params,
    Rng,
    Shape,
    Terms,
    norm,
    randomised,
    spread,
)
from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.checks import Array


def batch_norm(rng: Rng, shape: Shape = (5, 3), *, layer_class: LayerClass = BatchNorm) -> Case:
    """Batch normalization with the batch's own statistics."""
    x = spread(rng, shape)
    layer = randomised(layer_class(x.shape[1]), rng)
    return Case(
        layer, x, batch_norm_reference(x.ndim, layer.eps), terms=batch_norm_terms(layer.eps)
    )


def batch_norm_images(rng: Rng, *, layer_class: LayerClass = BatchNorm) -> Case:
    """The same for images (B, C, H, W)."""
    return batch_norm(rng, (2, 3, 3, 2), layer_class=layer_class)


def batch_norm_two_samples(rng: Rng, *, layer_class: LayerClass = BatchNorm) -> Case:
    """The same for two samples, where the input's gradient nearly cancels."""
    return batch_norm(rng, (2, 3), layer_class=layer_class)


def batch_norm_eval(
    rng: Rng, shape: Shape = (4, 3), *, layer_class: LayerClass = BatchNorm
) -> Case:
    """Batch normalization with running statistics, which are constants."""
    x = rng.normal(size=shape)
    layer = randomised(layer_class(x.shape[1]), rng)
    layer.running_mean, layer.running_var = rng.normal(size=(2, x.shape[1])) ** 2
    layer.training = False
    mean, var = torch.tensor(layer.running_mean), torch.tensor(layer.running_var)

    def reference(x: Tensor, params: Params) -> Tensor:
        return functional.batch_norm(x, mean, var, params["gamma"], params["beta"], eps=layer.eps)

    return Case(layer, x, reference)


def batch_norm_reference(ndim: int, eps: float) -> Callable[[Tensor, Params], Tensor]:
    """Return batch normalization in elementary torch operations, for a batch of one as well."""
    dims = (0,) if ndim == 2 else (0, 2, 3)
    shape = (1, -1) if ndim == 2 else (1, -1, 1, 1)

    def reference(x: Tensor, params: Params) -> Tensor:
        centred = x - x.mean(dims, keepdim=True)
        x_hat = centred / ((centred**2).mean(dims, keepdim=True) + eps).sqrt()
        return x_hat * params["gamma"].reshape(shape) + params["beta"].reshape(shape)

    return reference


def batch_norm_terms(eps: float) -> Terms:
    """Return what the terms of batch normalization's gradients are: γ dy/√(σ² + ε) and so on."""

    def terms(x: Array, params: dict[str, Array], dout: Array) -> dict[str, float]:
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        gamma = params["gamma"].reshape((1, -1) if x.ndim == 2 else (1, -1, 1, 1))
        scaled = dout / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
        return {"x": norm(gamma * scaled), "gamma": norm(scaled * x)}

    return terms
