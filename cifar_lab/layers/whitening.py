"""A first layer that is computed instead of trained: it decorrelates the pixels of small patches.

Its filters are the principal components of the patches of the training images, each scaled to unit
variance, and their negatives; so what follows begins with inputs that are uncorrelated and of equal
size, and needs no gradient with respect to the image.

Source: hlb-CIFAR10 (https://github.com/tysam-code/hlb-CIFAR10) and "94% on CIFAR-10 in 3.29 Seconds
on a Single GPU" (https://arxiv.org/abs/2404.00498), section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 5e-4  # added to the variances, of images of unit variance; the second source's


class Whitening(nn.Module):
    """A convolution with fixed filters, without bias and padding.

    Before ``fill`` its filters are random.

    Args:
        channels: of the images.
        size: side of a patch in pixels, at least 1.

    Shape: (B, channels, H, W) to (B, out_channels, H - size + 1, W - size + 1).
    """

    weight: Tensor
    filled: Tensor

    def __init__(self, channels: int = 3, size: int = 2) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        patch = channels * size * size
        self.out_channels = 2 * patch
        self.register_buffer("weight", torch.randn(2 * patch, channels, size, size) / patch**0.5)
        self.register_buffer("filled", torch.tensor(0.0))  # a number, which can be averaged

    def fill(self, images: Tensor) -> None:
        """Computes the filters from normalised float images (B, channels, H, W)."""
        self.weight.copy_(whitening_filters(images, self.size))
        self.filled.fill_(1)

    def forward(self, images: Tensor) -> Tensor:
        """Convolves normalised float images, of the shapes above."""
        return F.conv2d(images, self.weight)


def whitening_filters(images: Tensor, size: int) -> Tensor:
    """Principal components of patches over the root of their variance, then their negatives.

    Args:
        images: float (B, C, H, W), normalised.
        size: side of a patch in pixels.

    Returns:
        Filters (2 · C · size², C, size, size) of the images' dtype, the smallest variance first.
    """
    channels = images.shape[1]
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # (B, C, rows, columns, size, size)
    patches = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * size * size)
    variances, components = torch.linalg.eigh((patches.mT @ patches).double() / len(patches))
    filters = components.mT / (variances[:, None] + EPS).sqrt()
    filters = filters.reshape(-1, channels, size, size).to(images.dtype)
    return torch.cat([filters, -filters])
