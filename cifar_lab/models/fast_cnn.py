"""A convolutional network made for speed: a small VGG with what is known to shorten training.

    whitening 2×2, GELU, 3 × (conv, pool, batch norm, GELU, conv, batch norm, GELU), max pool,
    linear

Drawn from cifar10-airbench ("94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
https://arxiv.org/abs/2404.00498): the whitening layer, pooling before normalisation, convolutions
that begin near the identity, batch normalization without scale, whose bias is trained at a higher
rate than the filters, alternating flips, and a linear fall of all rates. From its successor Muon
for the filters (optimizers/muon.py) and logits that begin near 0. Small images first are from
"Progressive resizing" in fast.ai's DAWNBench entry
(https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html). docs/speed.md says what each part
is worth, docs/speed_trials.md how the settings were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.layers.whitening import Whitening
from cifar_lab.models.fast import FastClassifier
from cifar_lab.models.mlp import check_units

FIRST_CHANNELS = 24  # twice the values of a 2×2 patch, as many as whitening gives
WHITENING_IMAGES = 5000  # that the whitening layer is computed from; the first source's number


class Block(nn.Sequential):
    """Two 3×3 convolutions, each with batch normalization and GELU; the first is pooled.

    Args:
        fan_in: channels of the input.
        width: channels of the output.

    Shape: (B, fan_in, H, W) to (B, width, H // 2, W // 2), with H and W of at least 2.
    """

    def __init__(self, fan_in: int, width: int) -> None:
        super().__init__(
            _convolution(fan_in, width),
            nn.MaxPool2d(2),
            _batch_norm(width),
            nn.GELU(),
            _convolution(width, width),
            _batch_norm(width),
            nn.GELU(),
        )


class FastCNNNetwork(nn.Module):
    """A 2×2 convolution, a block for each width, the maximum over all pixels, and a linear layer.

    Args:
        num_classes: of the output.
        widths: channels of each block, each above 0; at most four blocks, as each halves the image.
        whitening: the first layer whitens patches and is not trained.

    Attributes:
        smallest_size: pixels that the side of an image needs.

    Raises:
        UserError: a value out of its range.
    """

    def __init__(self, num_classes: int, widths: Sequence[int], whitening: bool) -> None:
        super().__init__()
        self.smallest_size = 2 ** len(widths) + 1  # the first layer takes a pixel
        if self.smallest_size > IMAGE_SHAPE[-1]:
            raise UserError(f"widths {list(widths)}: {len(widths)} blocks; at most 4 fit the image")
        colours = IMAGE_SHAPE[0]
        self.first = Whitening(colours) if whitening else nn.Conv2d(colours, FIRST_CHANNELS, 2)
        sizes = [FIRST_CHANNELS, *check_units(widths, "widths")]
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise(sizes)))
        self.head = nn.Linear(sizes[-1], num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / sizes[-1])  # so that logits begin near 0
        # The layout in which convolutions are fastest, on CPU (oneDNN) and GPU alike.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Maps float images (B, 3, H, W), of any size above the smallest, to logits (B, C)."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = self.blocks(F.gelu(self.first(x)))
        return self.head(x.amax((2, 3)))


class FastCNN(FastClassifier):
    """The network as a LightningModule; further settings as in FastCNNNetwork and FastClassifier.

    Args:
        small_size: side in pixels to which images are shrunk at first, at most 32.
        small_share: share of the steps that see small images, in [0, 1].
    """

    network: FastCNNNetwork

    def __init__(
        self,
        widths: Sequence[int] = (64, 256, 256),
        whitening: bool = True,
        small_size: int = 24,
        small_share: float = 0.55,
        normalization: str = "standardize",
        optimizer: str = "muon",
        lr: float = 0.06,
        bias_lr: float = 5.0,
        head_lr: float = 0.007,
        momentum: float = 0.85,
        warmup: float = 0.0,
        weight_decay: float = 0.001,
        label_smoothing: float = 0.2,
        cuda_graphs: bool = True,
        num_classes: int = 10,
    ) -> None:
        super().__init__(
            FastCNNNetwork(num_classes, widths, whitening),
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
        smallest, largest = self.network.smallest_size, IMAGE_SHAPE[-1]
        if not smallest <= small_size <= largest:
            raise UserError(f"small_size {small_size}: expected {smallest} to {largest} pixels")
        if not 0 <= small_share <= 1:
            raise UserError(f"small_share {small_share}: expected 0 to 1")
        self.small_size, self.small_share = small_size, small_share
        self.save_hyperparameters()

    def training_logits(self, images: Tensor) -> Tensor:
        """Maps raw uint8 images (B, 3, 32, 32) to logits; shrinks them in the first steps."""
        normalised, side = self.normalize(images), self.captured_state()
        if side < IMAGE_SHAPE[-1]:
            # At least in float32: PyTorch has no bf16 for it on the CPU.
            whole = normalised.to(torch.promote_types(normalised.dtype, torch.float32))
            small = F.interpolate(whole, [side] * 2, mode="bilinear", antialias=True)
            normalised = small.to(normalised.dtype)
        return self.network(normalised)

    def captured_state(self) -> int:
        """Side in pixels of the images that the network sees at this step."""
        steps = self.trainer.estimated_stepping_batches
        return self.small_size if self.global_step < self.small_share * steps else IMAGE_SHAPE[-1]

    @property
    def computed_layer(self) -> Whitening | None:
        """The whitening layer, if there is one."""
        return self.network.first if isinstance(self.network.first, Whitening) else None

    def fill_computed_layer(self, data: CIFAR10DataModule) -> None:
        """Computes the whitening layer from some training images."""
        first = self.computed_layer
        assert first is not None
        # Of all classes: a folder of images lists them class by class.
        count = len(data.train_indices)
        taken = min(count, WHITENING_IMAGES)
        chosen = data.train_indices[np.arange(taken) * count // taken]
        images = torch.from_numpy(data.image_set.train_images[chosen])
        # Lightning moves a model to its device after this.
        first.fill(self.normalize(images.to(first.weight.device)))


def _convolution(fan_in: int, width: int) -> nn.Conv2d:
    """A 3×3 convolution whose first filters pass their channel on unchanged."""
    convolution = nn.Conv2d(fan_in, width, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[: min(fan_in, width)])
    return convolution


def _batch_norm(width: int) -> nn.BatchNorm2d:
    """Batch normalization with a bias and no scale."""
    layer = nn.BatchNorm2d(width)
    layer.weight.requires_grad_(False)
    return layer
