"""A first layer that is computed instead of trained: it decorrelates the pixels of small patches.

Its filters are the principal components of the patches of the training images, each scaled to unit
variance, and their negatives. So the next layer receives uncorrelated inputs of equal variance, and
the backward pass ends there.

Source: hlb-CIFAR10, https://github.com/tysam-code/hlb-CIFAR10, and "94% on CIFAR-10 in 3.29 Seconds
on a Single GPU", https://arxiv.org/abs/2404.00498, section 3.2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 5e-4  # added to the variances, as in the second source; the images have unit variance


class Whitening(nn.Module):
    """A convolution with fixed filters, without bias and padding.

    It maps normalized float images (B, channels, H, W) to (B, 2 · channels · size², H - size + 1,
    W - size + 1). The filters are random until ``fill`` is called.

    Args:
        channels: number of channels of the images.
        size: side of a patch in pixels, at least 1.
    """

    weight: Tensor
    filled: Tensor

    def __init__(self, channels: int = 3, size: int = 2) -> None:
        super().__init__()
        patch = channels * size * size
        self.register_buffer("weight", torch.randn(2 * patch, channels, size, size) / patch**0.5)
        self.register_buffer("filled", torch.tensor(0.0))  # a float, so that it can be averaged

    def fill(self, images: Tensor) -> None:
        """Compute the filters from such images, in each half in ascending order of variance."""
        size, patch = self.weight.shape[-1], self.weight[0].numel()
        windows = images.unfold(2, size, 1).unfold(3, size, 1)  # (B, C, rows, columns, size, size)
        patches = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, patch)
        variances, components = torch.linalg.eigh((patches.mT @ patches).double() / len(patches))
        filters = components.mT / (variances[:, None] + EPS).sqrt()
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))
        self.filled.fill_(1)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images with the filters."""
        return F.conv2d(images, self.weight)
