"""A model that PyTorch's exporters can follow: every operation one of torch's."""

from __future__ import annotations

import copy

import torch

from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.mlp import MLP
from cifar_lab.models.numpy_mlp import NumpyMLP


@torch.no_grad()
def traceable(model: ImageClassifier) -> ImageClassifier:
    """A copy that computes the same, on the CPU and in ``eval`` mode.

    A NumpyMLP becomes the MLP with its weights, since NumPy's operations leave no trace. Weights
    get the usual memory layout: ``torch.export.save`` wants it, and backends choose their own.
    """
    copied = _as_mlp(model) if isinstance(model, NumpyMLP) else copy.deepcopy(model)
    copied.network.to(memory_format=torch.contiguous_format)
    return copied.cpu().eval()


def _as_mlp(model: NumpyMLP) -> MLP:
    copied = MLP(
        model.hparams["hidden_units"],
        normalization=model.normalize.kind,
        num_classes=model.num_classes,
    )
    copied.normalize.load_state_dict(model.normalize.state_dict())
    pairs = zip(copied.network.parameters(), model.network.parameters(), strict=True)
    for parameter, value in pairs:  # weight and bias of each layer, in order
        parameter.copy_(value)
    return copied
