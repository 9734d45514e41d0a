"""The multi-layer perceptron of the report (system 2): 3072–100–10 with ReLU.

Its second initialisation is that of the NumPy MLP (system 1), so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.layers.linear import Linear
from cifar_lab.models.classifier import ImageClassifier

INITS = ("pytorch", "report")
REPORT_STD = 1e-4  # of the weights in the report's NumPy MLP


class MLPNetwork(nn.Sequential):
    """Linear layers with ReLU between them.

    Args:
        hidden_units: units of each hidden layer, each above 0; empty makes a linear classifier.
        num_classes: of the output.
        init: "pytorch" (uniform within ±1/√fan_in) or "report" (weights N(0, 0.0001²), biases 0).

    Raises:
        UserError: a value out of its range.
    """

    def __init__(self, hidden_units: Sequence[int], num_classes: int, init: str) -> None:
        sizes = [prod(IMAGE_SHAPE), *check_units(hidden_units)]
        if init not in INITS:
            raise UserError(f"init {init!r}: expected {' or '.join(INITS)}")
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, units in pairwise(sizes):
            layers += [Linear(fan_in, units), nn.ReLU()]
        super().__init__(*layers, Linear(sizes[-1], num_classes))
        if init == "report":
            self.apply(_report_init)

    def forward(self, images: Tensor) -> Tensor:
        """Maps float images (B, 3, 32, 32) to logits (B, num_classes)."""
        return super().forward(images)


def check_units(units: Sequence[int], name: str = "hidden_units") -> Sequence[int]:
    """Gives the units of layers back; a UserError with their name where one is not above 0."""
    if any(count < 1 for count in units):
        raise UserError(f"{name} {list(units)}: expected integers above 0")
    return units


def _report_init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=REPORT_STD)
        nn.init.zeros_(module.bias)


class MLP(ImageClassifier):
    """The report's PyTorch MLP as a LightningModule.

    Its settings are those of MLPNetwork and ImageClassifier.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (100,),
        init: str = "pytorch",
        normalization: str = "mean_image",
        optimizer: str = "sgd",
        lr: float = 2e-3,
        weight_decay: float = 0.0,
        num_classes: int = 10,
    ) -> None:
        super().__init__(
            MLPNetwork(hidden_units, num_classes, init),
            num_classes=num_classes,
            normalization=normalization,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
        )
        self.save_hyperparameters()
