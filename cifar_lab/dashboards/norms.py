"""The norms of a network's layers: how large its weights are, and what the gradient asks of them.

A layer is a module with parameters of its own; its norm is the Euclidean one over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm


class ParameterNorms:
    """Norms that were computed on the device and not read yet.

    Args:
        network: with the layers.
        gradients: of its parameters, by their names; those without one are left out.
    """

    def __init__(self, network: nn.Module, gradients: Mapping[str, Tensor]) -> None:
        weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
        norms = {
            f"{kind}/{_label(network, layer)}": get_total_norm(members)
            for kind, tensors in (("grad_norm", gradients), ("weight_norm", weights))
            for layer, members in _by_layer(tensors).items()
        }
        self._tags = list(norms)
        self._values = torch.stack([norm.float() for norm in norms.values()])

    def read(self) -> dict[str, float]:
        """Tags ``grad_norm/<layer>`` and ``weight_norm/<layer>`` with their values."""
        return dict(zip(self._tags, self._values.tolist(), strict=True))


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    layers: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        layers.setdefault(name.rpartition(".")[0], []).append(tensor)
    return layers


def _label(network: nn.Module, layer: str) -> str:
    """The place of a layer and what it is, such as ``3.Conv2d``."""
    kind = type(network.get_submodule(layer)).__name__
    return layer if kind == "Module" else f"{layer}.{kind}".lstrip(".")
