"""The multi-layer perceptrons: one network with options, and the three models built on it.

- ``MLP`` is the report's PyTorch MLP (system 2), 3072–100–10 with ReLU. Its initialization may be
  that of the report's NumPy MLP (system 1), so that the two can be compared.
- ``DeepMLP`` is the report's deep MLP (systems 3 to 6). The best one has seven hidden layers with
  weight normalization (layers/weight_norm.py) and dropout. The report says neither which layers it
  normalizes nor the dropout rate. Here it is every hidden layer, and recipes/deep_mlp.yaml says how
  the rate was chosen.
- ``BatchNormMLP`` has batch normalization, whose backward pass is written by hand.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod, sqrt

from torch import nn

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.layers import batch_norm
from cifar_lab.layers.dropout import Dropout
from cifar_lab.layers.weight_norm import WeightNormLinear
from cifar_lab.models.classifier import ImageClassifier, require

REPORT_STD = 1e-4  # standard deviation of the weights in the report's NumPy MLP

# Initializations, and the linear layers that do not keep PyTorch's default.
INITS = {
    "pytorch": slice(0),
    "report": slice(None),
    "he": slice(None),
    "report_first": slice(1),
    "report_last": slice(-1, None),
}


class MLPNetwork(nn.Sequential):
    """Hidden layers of linear, batch normalization, ReLU and dropout, then a linear layer.

    It maps float images (B, 3, 32, 32) to logits (B, num_classes). Hidden linear layers have no
    bias where batch normalization follows, which would subtract it.

    Args:
        hidden_units: number of units of each hidden layer, each above 0; empty makes a linear
            classifier.
        num_classes: number of outputs.
        init: initialization of the linear layers: "pytorch" (uniform within ±1/√fan_in), "report"
            (weights N(0, 0.0001²), biases 0), "he" (weights N(0, 2/fan_in), biases 0), or
            "report_first" or "report_last" (only that layer as in the report). With
            ``weight_norm`` or ``batchnorm`` only "pytorch".
        dropout: probability that a hidden unit is zeroed in training, in [0, 1).
        weight_norm: whether the hidden layers have weight normalization.
        batchnorm: "manual" (backward pass by hand), "composed" (elementary operations and autograd)
            or "native" (``nn.BatchNorm1d``), all the same function; None for no normalization.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        num_classes: int,
        *,
        init: str = "pytorch",
        dropout: float = 0.0,
        weight_norm: bool = False,
        batchnorm: str | None = None,
    ) -> None:
        require(init in INITS, "init", init, " or ".join(INITS))
        require(0 <= dropout < 1, "dropout", dropout, "at least 0 and below 1")
        require(min(hidden_units, default=1) > 0, "hidden_units", hidden_units, "integers above 0")
        sizes = [prod(IMAGE_SHAPE), *hidden_units]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, units in pairwise(sizes):
            if weight_norm:
                layers.append(WeightNormLinear(fan_in, units))
            else:
                layers.append(nn.Linear(fan_in, units, bias=batchnorm is None))
            if batchnorm is not None:
                layers.append(batch_norm(units, 1, batchnorm))
            layers += [nn.ReLU(), Dropout(dropout)] if dropout else [nn.ReLU()]
        super().__init__(*layers, nn.Linear(sizes[-1], num_classes))
        linears = [layer for layer in self if isinstance(layer, nn.Linear)]
        for linear in linears[INITS[init]]:
            std = sqrt(2 / linear.in_features) if init == "he" else REPORT_STD
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)


class MLP(ImageClassifier):
    """The report's PyTorch MLP; its settings are those of MLPNetwork and ImageClassifier."""

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
        network = MLPNetwork(hidden_units, num_classes, init=init)
        super().__init__(network, num_classes, normalization, optimizer, lr, weight_decay)
        self.save_hyperparameters()


class DeepMLP(ImageClassifier):
    """The report's best MLP; its settings are those of MLPNetwork and ImageClassifier."""

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
        network = MLPNetwork(hidden_units, num_classes, dropout=dropout, weight_norm=weight_norm)
        super().__init__(network, num_classes, normalization, optimizer, lr, weight_decay)
        self.save_hyperparameters()


class BatchNormMLP(ImageClassifier):
    """An MLP with batch normalization; its settings are those of MLPNetwork and ImageClassifier."""

    def __init__(
        self,
        hidden_units: Sequence[int] = (100,),
        batchnorm: str = "manual",
        normalization: str = "mean_image",
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        num_classes: int = 10,
    ) -> None:
        network = MLPNetwork(hidden_units, num_classes, batchnorm=batchnorm)
        super().__init__(network, num_classes, normalization, optimizer, lr, weight_decay)
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Raise a UserError for batches of one image, which have no variance."""
        data = self.trainer.datamodule
        if stage == "fit" and isinstance(data, CIFAR10DataModule) and data.batch_size < 2:
            raise UserError("batch_size 1: batch normalization needs two images or more")
        super().setup(stage)
