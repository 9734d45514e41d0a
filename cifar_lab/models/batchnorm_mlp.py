"""An MLP with the package's own batch normalization, whose backward pass is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.layers import batch_norm
from cifar_lab.layers.linear import Linear
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.mlp import check_units


class BatchNormMLPNetwork(nn.Sequential):
    """Hidden layers of linear, batch normalization and ReLU, then a linear layer.

    The hidden linear layers have no bias: the normalization that follows would subtract it.

    Args:
        hidden_units: units of each hidden layer, each above 0.
        num_classes: of the output.
        batchnorm: "manual" (backward pass by hand), "composed" (of elementary operations, their
            backward pass by autograd) or "native" (``nn.BatchNorm1d``). All three compute the same.

    Raises:
        UserError: a value out of its range.
    """

    def __init__(self, hidden_units: Sequence[int], num_classes: int, batchnorm: str) -> None:
        sizes = [prod(IMAGE_SHAPE), *check_units(hidden_units)]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, units in pairwise(sizes):
            layers += [
                Linear(fan_in, units, bias=False),
                batch_norm(units, 1, batchnorm),
                nn.ReLU(),
            ]
        super().__init__(*layers, Linear(sizes[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Maps float images (B, 3, 32, 32) to logits (B, num_classes)."""
        return super().forward(images)


class BatchNormMLP(ImageClassifier):
    """The MLP with batch normalization as a LightningModule.

    Its settings are those of BatchNormMLPNetwork and ImageClassifier.
    """

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
        super().__init__(
            BatchNormMLPNetwork(hidden_units, num_classes, batchnorm),
            num_classes=num_classes,
            normalization=normalization,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
        )
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Refuses batches of one image, which have no variance.

        Raises:
            UserError: the data give such batches; else as of ImageClassifier.
        """
        data = self.trainer.datamodule
        if stage == "fit" and isinstance(data, CIFAR10DataModule) and data.batch_size < 2:
            raise UserError("batch_size 1: batch normalization needs two images or more")
        super().setup(stage)
