"""The deep multi-layer perceptrons of the report (systems 3 to 6).

The best of them has seven hidden layers with weight normalisation and dropout. Weight
normalisation writes a weight as ``g · v / ‖v‖``, a length and a direction for each unit, and trains
both: Salimans and Kingma, "Weight Normalization" (https://arxiv.org/abs/1602.07868). The report
says neither which layers it normalises nor the dropout rate: here it is every hidden layer, and
recipes/deep_mlp.yaml says how the rate was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.layers.dropout import Dropout
from cifar_lab.layers.linear import Linear
from cifar_lab.layers.weight_norm import WeightNormLinear
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.mlp import check_units


class DeepMLPNetwork(nn.Sequential):
    """Hidden layers of linear, ReLU and dropout, then a linear layer.

    Args:
        hidden_units: units of each hidden layer, each above 0.
        num_classes: of the output.
        dropout: probability that a hidden unit is zeroed in training, in [0, 1).
        weight_norm: normalise the weights of the hidden layers.

    Raises:
        UserError: a value out of its range.
    """

    def __init__(
        self, hidden_units: Sequence[int], num_classes: int, dropout: float, weight_norm: bool
    ) -> None:
        if not 0 <= dropout < 1:
            raise UserError(f"dropout {dropout}: expected at least 0 and below 1")
        sizes = [prod(IMAGE_SHAPE), *check_units(hidden_units)]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, units in pairwise(sizes):
            linear = WeightNormLinear if weight_norm else Linear
            layers += [linear(fan_in, units), nn.ReLU()]
            if dropout:
                layers.append(Dropout(dropout))
        super().__init__(*layers, Linear(sizes[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Maps float images (B, 3, 32, 32) to logits (B, num_classes)."""
        return super().forward(images)


class DeepMLP(ImageClassifier):
    """The report's best MLP as a LightningModule.

    Its settings are those of DeepMLPNetwork and ImageClassifier.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (2048, 1024, 1024, 512, 512, 256, 256),
        dropout: float = 0.2,
        weight_norm: bool = True,
        normalization: str = "mean_image",
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        num_classes: int = 10,
    ) -> None:
        super().__init__(
            DeepMLPNetwork(hidden_units, num_classes, dropout, weight_norm),
            num_classes=num_classes,
            normalization=normalization,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
        )
        self.save_hyperparameters()
