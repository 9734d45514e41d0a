"""The multi-layer perceptron of the course in PyTorch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers and activations in turn, then a linear layer, which returns logits.

    Args:
        n_inputs: number of features of a sample.
        n_hidden: number of units of each hidden layer; empty for a linear classifier.
        n_classes: number of logits of a sample.
        use_batch_norm: whether to put ``nn.BatchNorm1d`` between linear layers and activations.
        activation: class or function that makes a hidden activation: ``nn.ReLU``, or ``nn.ELU``
            from the edition of 2020 on.

    Attributes:
        layers: modules from first to last.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: Sequence[int],
        n_classes: int,
        use_batch_norm: bool = False,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_units in n_hidden:
            layers.append(nn.Linear(n_inputs, n_units))
            layers += [nn.BatchNorm1d(n_units)] if use_batch_norm else []
            layers.append(activation())
            n_inputs = n_units
        self.layers = nn.Sequential(*layers, nn.Linear(n_inputs, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, ...), with n_inputs numbers a sample, to logits (B, n_classes)."""
        return self.layers(x.flatten(1))

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device
