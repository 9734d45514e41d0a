"""A convolutional network made for speed: a small VGG with techniques that shorten training.

    whitening 2×2, GELU, 3 × (conv, pool, batch norm, GELU, conv, batch norm, GELU), max pool,
    linear

Several parts come from cifar10-airbench ("94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
https://arxiv.org/abs/2404.00498): the whitening layer, pooling before normalization, convolutions
that begin near the identity, batch normalization without scale, whose bias is trained at a higher
rate than the filters, alternating flips, and a linear decay of all rates. Its successor added Muon
for the filters (optimizers/muon.py) and logits that begin near 0. Training on small images first is
"Progressive resizing" in fast.ai's DAWNBench entry
(https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html). docs/speed.md shows what each part is
worth.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.data.loader import Batch
from cifar_lab.layers.whitening import Whitening
from cifar_lab.models.classifier import require
from cifar_lab.models.fast import FastClassifier

FIRST_CHANNELS = 24  # twice the values of a 2×2 patch, as many as the whitening layer has
WHITENING_IMAGES = 5000  # images that the whitening layer is computed from, as in the first source


class Block(nn.Sequential):
    """Two 3×3 convolutions, each with batch normalization and GELU; the first is pooled.

    Shape: (B, fan_in, H, W) to (B, width, H // 2, W // 2), with H and W of at least 2.
    """

    def __init__(self, fan_in: int, width: int) -> None:
        first, second = (nn.Conv2d(n, width, 3, padding=1, bias=False) for n in (fan_in, width))
        for convolution in (first, second):  # the first filters start as the identity
            nn.init.dirac_(convolution.weight[: convolution.in_channels])
        norms = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        for norm in norms:
            norm.weight.requires_grad_(False)
        pooled = first, nn.MaxPool2d(2), norms[0], nn.GELU()
        super().__init__(*pooled, second, norms[1], nn.GELU())


class FastCNNNetwork(nn.Module):
    """A 2×2 convolution, a block for each width, the maximum over all pixels, and a linear layer.

    Args:
        num_classes: number of outputs.
        widths: number of channels of each block, at most four, each above 0.
        whitening: whether the first layer whitens patches and is not trained.

    Attributes:
        smallest_size: smallest side of an image in pixels.
    """

    def __init__(self, num_classes: int, widths: Sequence[int], whitening: bool) -> None:
        super().__init__()
        require(min(widths, default=1) > 0, "widths", widths, "integers above 0")
        require(len(widths) <= 4, "widths", widths, "at most 4 blocks, since each halves the image")
        colours = IMAGE_SHAPE[0]
        self.first = Whitening(colours) if whitening else nn.Conv2d(colours, FIRST_CHANNELS, 2)
        self.smallest_size = 2 ** len(widths) + 1  # the first layer removes one pixel
        sizes = [FIRST_CHANNELS, *widths]
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise(sizes)))
        self.head = nn.Linear(sizes[-1], num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / sizes[-1])  # so that logits begin near 0
        # Convolutions are fastest in this layout, on the CPU (oneDNN) and on a GPU.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (B, 3, H, W) of at least ``smallest_size`` to logits (B, C)."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = self.blocks(F.gelu(self.first(x)))
        return self.head(x.amax((2, 3)))


class FastCNN(FastClassifier):
    """The fast CNN; its further settings are those of FastCNNNetwork and FastClassifier.

    Args:
        small_size: side in pixels to which images are shrunk in the first steps, at most 32.
        small_share: share of the steps that are trained on small images, in [0, 1].
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
        network = FastCNNNetwork(num_classes, widths, whitening)
        shared = num_classes, normalization, optimizer, lr, weight_decay, label_smoothing
        rates = {"bias_lr": bias_lr, "head_lr": head_lr, "momentum": momentum, "warmup": warmup}
        super().__init__(network, *shared, **rates, cuda_graphs=cuda_graphs)
        smallest, largest = self.network.smallest_size, IMAGE_SHAPE[-1]
        fits = smallest <= small_size <= largest
        require(fits, "small_size", small_size, f"{smallest} to {largest} pixels")
        require(0 <= small_share <= 1, "small_share", small_share, "0 to 1")
        self.small_size, self.small_share = small_size, small_share
        self.side = largest  # of the images in the current training step
        self.save_hyperparameters()

    def training_logits(self, images: Tensor) -> Tensor:
        """Map raw uint8 images (B, 3, 32, 32), shrunk in the first steps, to logits (B, C)."""
        normalized = self.normalize(images)
        if self.side < IMAGE_SHAPE[-1]:
            # At least in float32: PyTorch cannot interpolate bf16 on the CPU.
            whole = normalized.to(torch.promote_types(normalized.dtype, torch.float32))
            small = F.interpolate(whole, [self.side] * 2, mode="bilinear", antialias=True)
            normalized = small.to(normalized.dtype)
        return self.network(normalized)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the side of the images here, since ``training_step`` may be compiled."""
        super().on_train_batch_start(batch, batch_idx)
        self.side = self.small_size if self.global_step < self._small_steps else IMAGE_SHAPE[-1]

    @property
    def _small_steps(self) -> float:
        return self.small_share * self.trainer.estimated_stepping_batches

    def cost_of_steps(self, step: int) -> float:
        """Return the cost of the first steps; that of an image is proportional to its pixels."""
        saved = 1 - (self.small_size / IMAGE_SHAPE[-1]) ** 2
        return step - saved * min(step, self._small_steps)

    def captured_state(self) -> int:
        """Return the side of the images in pixels."""
        return self.side

    def fill_computed_layer(self, data: CIFAR10DataModule) -> None:
        """Compute the whitening layer from some training images."""
        # Take images of all classes: an image folder lists its images class by class.
        count = len(data.train_indices)
        taken = min(count, WHITENING_IMAGES)
        chosen = data.train_indices[np.arange(taken) * count // taken]
        assert isinstance(self.network.first, Whitening)
        self.network.first.fill(self.normalized(data, chosen))
