"""The first layer of every model, which turns raw pixels into normalized floats.

Its statistics are saved with the model, so evaluation, prediction and export take raw images.
"""

import torch
from torch import Tensor, nn

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.data.statistics import CIFAR10_MEAN, CIFAR10_STD
from cifar_lab.errors import UserError

KINDS = ("mean_image", "standardize")


class Normalize(nn.Module):
    """Compute ``(image - mean) / std`` for pixels from 0 to 255.

    Before ``fill`` is called, the statistics are the published means and standard deviations of
    CIFAR-10's channels. "mean_image" then uses the channel means for every pixel.

    Args:
        kind: "mean_image" for a mean of shape (3, 32, 32) and no division, as in the report, or
            "standardize" for a mean and a standard deviation of shape (3, 1, 1).

    Raises:
        UserError: ``kind`` is neither.
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
        self.register_buffer("filled", torch.tensor(0.0))  # a float, so that it can be averaged

    def fill(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics, float32 tensors of the shapes of the buffers."""
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.filled.fill_(1)

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images (B, 3, 32, 32) to normalized ones of the buffers' dtype, often float32.

        Raises:
            TypeError: the images are not uint8; they may be normalized already.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"expected raw uint8 images (B, 3, 32, 32), got {images.dtype}")
        centred = images.to(self.mean.dtype).sub_(self.mean)  # in the copy, to save memory
        return centred if self.kind == "mean_image" else centred.div_(self.std)
