"""The first layer of every model: raw pixels in, normalised floats out.

It belongs to the model, so its statistics travel in the checkpoint and evaluation, prediction and
export take raw images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.data.statistics import CIFAR10_MEAN, CIFAR10_STD
from cifar_lab.errors import UserError

KINDS = ("mean_image", "standardize")


class Normalize(nn.Module):
    """``(image - mean) / std`` on the pixels' scale 0–255.

    Before ``fill`` the statistics are the published channel values of CIFAR-10 ("mean_image" takes
    the channel means for every pixel, and no division).

    Args:
        kind: "mean_image" (the report's: mean (3, 32, 32), std 1) or "standardize" (both
            (3, 1, 1)).

    Raises:
        UserError: another ``kind``.
    """

    mean: Tensor
    std: Tensor
    filled: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"normalization {kind!r}: expected {' or '.join(KINDS)}")
        self.kind = kind
        mean = 255 * torch.tensor(CIFAR10_MEAN).reshape(3, 1, 1)
        std = 255 * torch.tensor(CIFAR10_STD).reshape(3, 1, 1)
        if kind == "mean_image":
            mean, std = mean.repeat(1, *IMAGE_SHAPE[1:]), torch.ones(IMAGE_SHAPE)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("filled", torch.tensor(0.0))  # a number, which can be averaged

    def fill(self, mean: Tensor, std: Tensor) -> None:
        """Takes the statistics of the data, float32 of the shapes of the buffers."""
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.filled.fill_(1)

    def forward(self, images: Tensor) -> Tensor:
        """Turns uint8 images (B, 3, 32, 32) into floats of the same shape.

        They are float32, or of the dtype that the module was converted to.

        Raises:
            TypeError: the images are not uint8; they may be normalised already.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"expected raw uint8 images (B, 3, 32, 32), got {images.dtype}")
        centred = images.to(self.mean.dtype).sub_(self.mean)  # in the copy: nothing else is made
        return centred if self.kind == "mean_image" else centred.div_(self.std)
