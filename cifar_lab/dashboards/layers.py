"""The norms of a network's layers: of their weights, and of their gradients before any clipping.

A layer is a module with parameters of its own. Its norm is the Euclidean norm of all of them.
"""

from collections.abc import Mapping

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from cifar_lab.internals import unscales_gradients
from cifar_lab.models.classifier import ImageClassifier


def unscaled_gradients(
    trainer: Trainer, model: ImageClassifier, optimizer: Optimizer
) -> dict[str, Tensor]:
    """Return the gradients of the model's parameters, without the loss scale of ``16-mixed``.

    Call it from ``on_before_optimizer_step``. Lightning has divided by the scale there, unless the
    optimizer does it.
    """
    gradients = model.gradients()
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not unscales_gradients(optimizer):
        return gradients
    scale = float(scaler.get_scale())
    return {name: gradient / scale for name, gradient in gradients.items()}


def layer_norms(network: nn.Module, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``grad_norm/<layer>`` and ``weight_norm/<layer>`` as tensors () on the device.

    Gradients are named like the network's parameters; some may be missing. A layer is called by
    its name and its kind, such as ``3.Conv2d``.
    """
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    layers: dict[str, list[Tensor]] = {}
    for group, tensors in (("grad_norm", gradients), ("weight_norm", weights)):
        for name, tensor in tensors.items():
            layer = name.rpartition(".")[0]
            kind = type(network.get_submodule(layer)).__name__
            label = layer if kind == "Module" else f"{layer}.{kind}".lstrip(".")
            layers.setdefault(f"{group}/{label}", []).append(tensor)
    return {tag: get_total_norm(members) for tag, members in layers.items()}


def read_norms(norms: Mapping[str, Tensor]) -> dict[str, float]:
    """Return norms as numbers, which are copied from the device together."""
    values = torch.stack([norm.float() for norm in norms.values()])
    return dict(zip(norms, values.tolist(), strict=True))
