"""A fully connected network made for a short training: no convolution, no patches.

    principal components, linear, blocks × (x + linear(layer norm(linear(n) · linear(n)))),
    layer norm, linear

In a block n is layer norm(x), and the product is unit by unit (``bilinear=False`` takes
GELU(linear(n)) instead).

Residual blocks with an inverted bottleneck are from "Scaling MLPs: A Tale of Inductive Bias"
(https://arxiv.org/abs/2306.13575), which finds that augmentation and time are what a plain MLP
lacks. Products of two linear layers in place of an activation are the bilinear layers of "GLU
Variants Improve Transformer" (https://arxiv.org/abs/2002.05202), and the layer normalisation
behind them is from "NormFormer" (https://arxiv.org/abs/2110.09456); layers/principal.py names the
source of the first layer. docs/speed.md says what each setting is worth here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.layers.dropout import Dropout
from cifar_lab.layers.linear import Linear
from cifar_lab.layers.principal import PrincipalComponents
from cifar_lab.models.fast import FastClassifier

PIECE = 5000  # images that are floats at a time


class ResidualBlock(nn.Module):
    """``x + W LayerNorm(h)``, where W begins at zero, so that the block begins as the identity.

    With n = LayerNorm(x), h is ``(U n + a) · (V n + b)``, unit by unit, or ``GELU(U n + a)``.

    Args:
        width: units of the input and the output.
        hidden: units of h.
        bilinear: h is the product; else GELU's.
        dropout: probability that a unit of LayerNorm(h) is zeroed in training, in [0, 1).

    Shape: (B, width) to the same.
    """

    def __init__(self, width: int, hidden: int, bilinear: bool, dropout: float) -> None:
        super().__init__()
        self.bilinear = bilinear
        self.norm = nn.LayerNorm(width)
        self.widen = Linear(width, 2 * hidden if bilinear else hidden)  # U, and V behind it
        self.hidden_norm = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)
        self.narrow = Linear(hidden, width)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Adds what the block computes."""
        h = self.widen(self.norm(x))
        h = torch.mul(*h.chunk(2, dim=1)) if self.bilinear else F.gelu(h)
        return x + self.narrow(self.dropout(self.hidden_norm(h)))


class FastMLPNetwork(nn.Module):
    """Principal components, a linear layer, residual blocks, layer normalisation, a linear layer.

    Args:
        num_classes: of the output.
        components: principal components of the image that are kept, at most 3072; 0 for the pixels
            themselves.
        width: units of the residual stream, above 0.
        blocks: number of blocks, at least 0.
        expansion: hidden units of a block over ``width``, above 0.
        bilinear: hidden units are products of two linear layers; else one with GELU.
        dropout: probability that a hidden unit of a block is zeroed in training, in [0, 1).

    Raises:
        UserError: a value out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        components: int,
        width: int,
        blocks: int,
        expansion: int,
        bilinear: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        inputs = prod(IMAGE_SHAPE)
        if not 0 <= components <= inputs:
            raise UserError(f"components {components}: expected 0 to {inputs}")
        for name, value, least in (("width", width, 1), ("blocks", blocks, 0)):
            if value < least:
                raise UserError(f"{name} {value}: expected at least {least}")
        if expansion < 1:
            raise UserError(f"expansion {expansion}: expected at least 1")
        if not 0 <= dropout < 1:
            raise UserError(f"dropout {dropout}: expected at least 0 and below 1")
        self.principal = PrincipalComponents(inputs, components) if components else None
        self.embedding = Linear(components or inputs, width)
        block = partial(ResidualBlock, width, expansion * width, bilinear, dropout)
        self.blocks = nn.Sequential(*(block() for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps float images (B, 3, 32, 32) to logits (B, num_classes)."""
        x = images.flatten(1) if self.principal is None else self.principal(images)
        return self.head(self.norm(self.blocks(self.embedding(x))))


class FastMLP(FastClassifier):
    """The network as a LightningModule; settings as in FastMLPNetwork and FastClassifier."""

    network: FastMLPNetwork

    def __init__(
        self,
        components: int = 768,
        width: int = 768,
        blocks: int = 3,
        expansion: int = 2,
        bilinear: bool = True,
        dropout: float = 0.0,
        normalization: str = "standardize",
        optimizer: str = "adamw",
        lr: float = 7e-4,
        bias_lr: float = 0.05,
        head_lr: float = 0.1,
        momentum: float = 0.9,
        warmup: float = 0.1,
        weight_decay: float = 0.5,
        label_smoothing: float = 0.1,
        cuda_graphs: bool = True,
        num_classes: int = 10,
    ) -> None:
        super().__init__(
            FastMLPNetwork(num_classes, components, width, blocks, expansion, bilinear, dropout),
            num_classes=num_classes,
            normalization=normalization,
            optimizer=optimizer,
            lr=lr,
            bias_lr=bias_lr,
            head_lr=head_lr,
            momentum=momentum,
            warmup=warmup,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
            cuda_graphs=cuda_graphs,
        )
        self.save_hyperparameters()

    @property
    def computed_layer(self) -> PrincipalComponents | None:
        """The principal components, if the network begins with them."""
        return self.network.principal

    def fill_computed_layer(self, data: CIFAR10DataModule) -> None:
        """Computes the principal components from the training images."""
        assert self.computed_layer is not None
        self.computed_layer.fill(lambda: self._pieces(data))

    def _pieces(self, data: CIFAR10DataModule) -> Iterator[Tensor]:
        """The training images, normalised, a few thousand at a time."""
        for first in range(0, len(data.train_indices), PIECE):
            chosen = data.train_indices[first : first + PIECE]
            images = torch.from_numpy(data.image_set.train_images[chosen])
            # Lightning moves a model to its device after this.
            yield self.normalize(images.to(self.normalize.mean.device))
