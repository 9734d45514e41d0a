"""A fully connected network made for speed, without convolutions or patches.

    principal components, linear, blocks × (x + linear(layer norm(linear(n) · linear(n)))),
    layer norm, linear

In a block, n is layer norm(x), and the product is elementwise; ``bilinear=False`` uses
GELU(linear(n)) instead.

Residual blocks with an inverted bottleneck come from "Scaling MLPs: A Tale of Inductive Bias"
(https://arxiv.org/abs/2306.13575), products of two linear layers in place of an activation from
"GLU Variants Improve Transformer" (https://arxiv.org/abs/2002.05202), and the layer normalization
after them from "NormFormer" (https://arxiv.org/abs/2110.09456). layers/principal.py names the
source of the first layer, and docs/speed.md shows what each setting is worth.
"""

from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.layers.dropout import Dropout
from cifar_lab.layers.principal import PrincipalComponents
from cifar_lab.models.classifier import require
from cifar_lab.models.fast import FastClassifier

PIECE = 5000  # number of images that are converted to floats at a time


class ResidualBlock(nn.Module):
    """``x + W LayerNorm(h)``, where W begins at zero, so that the block begins as the identity.

    With n = LayerNorm(x), h (B, hidden) is ``(U n + a) · (V n + b)``, elementwise, if ``bilinear``,
    otherwise ``GELU(U n + a)``. In training, dropout zeroes units of LayerNorm(h).
    """

    def __init__(self, width: int, hidden: int, bilinear: bool, dropout: float) -> None:
        super().__init__()
        self.bilinear = bilinear
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * hidden if bilinear else hidden)  # U, followed by V
        self.hidden_norm = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)
        self.narrow = nn.Linear(hidden, width)
        for parameter in self.narrow.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width) to (B, width)."""
        h = self.widen(self.norm(x))
        h = torch.mul(*h.chunk(2, dim=1)) if self.bilinear else F.gelu(h)
        return x + self.narrow(self.dropout(self.hidden_norm(h)))


class FastMLPNetwork(nn.Module):
    """The network of the fast MLP; see the top of this file.

    Args:
        num_classes: number of outputs.
        components: number of principal components of the image, at most 3072; 0 for the pixels.
        width: number of units between the blocks, above 0.
        blocks: number of blocks, at least 0.
        expansion: number of hidden units of a block divided by ``width``, above 0.
        bilinear: whether hidden units are products of two linear layers; otherwise GELU of one.
        dropout: probability that a hidden unit of a block is zeroed in training, in [0, 1).
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
        require(0 <= components <= inputs, "components", components, f"0 to {inputs}")
        require(width >= 1, "width", width, "at least 1")
        require(blocks >= 0, "blocks", blocks, "at least 0")
        require(expansion >= 1, "expansion", expansion, "at least 1")
        require(0 <= dropout < 1, "dropout", dropout, "at least 0 and below 1")
        self.principal = PrincipalComponents(inputs, components) if components else None
        self.embedding = nn.Linear(components or inputs, width)
        block = partial(ResidualBlock, width, expansion * width, bilinear, dropout)
        self.blocks = nn.Sequential(*(block() for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (B, 3, 32, 32) to logits (B, num_classes)."""
        x = images.flatten(1) if self.principal is None else self.principal(images)
        return self.head(self.norm(self.blocks(self.embedding(x))))


class FastMLP(FastClassifier):
    """The fast MLP; its settings are those of FastMLPNetwork and FastClassifier."""

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
        layers = components, width, blocks, expansion, bilinear, dropout
        network = FastMLPNetwork(num_classes, *layers)
        shared = num_classes, normalization, optimizer, lr, weight_decay, label_smoothing
        rates = {"bias_lr": bias_lr, "head_lr": head_lr, "momentum": momentum, "warmup": warmup}
        super().__init__(network, *shared, **rates, cuda_graphs=cuda_graphs)
        self.save_hyperparameters()

    def fill_computed_layer(self, data: CIFAR10DataModule) -> None:
        """Compute the principal components from all training images, some thousands at a time."""
        starts = range(0, len(data.train_indices), PIECE)
        pieces = [data.train_indices[first : first + PIECE] for first in starts]
        assert self.network.principal is not None
        self.network.principal.fill(lambda: (self.normalized(data, piece) for piece in pieces))
