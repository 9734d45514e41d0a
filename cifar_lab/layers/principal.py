"""A first layer that is computed instead of trained: the principal components of whole images.

An image is projected on the directions in which the training images differ most, and each
projection is divided by its standard deviation over them: what follows begins with inputs that are
uncorrelated and of equal size. The directions in which images differ least, the finest details,
are left out.

Source: Lin, Memisevic and Konda, "How far can we go without convolution: Improving fully-connected
networks" (https://arxiv.org/abs/1511.02580), which begins with such a whitening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

EPS = 1e-2  # added to the variances, of images of unit variance


class PrincipalComponents(nn.Module):
    """A fixed linear layer; before ``fill`` its weight is random.

    Args:
        inputs: values of an image, C · H · W.
        components: outputs, from 1 to ``inputs``.

    Shape: (B, C, H, W) to (B, components), the component of the largest variance last.
    """

    weight: Tensor
    mean: Tensor
    filled: Tensor

    def __init__(self, inputs: int, components: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(components, inputs) / inputs**0.5)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("filled", torch.tensor(0.0))  # a number, which can be averaged

    def fill(self, pieces: Callable[[], Iterable[Tensor]]) -> None:
        """Computes the layer from images, looked at twice and never all at once as floats.

        Args:
            pieces: gives all images, normalised, in float tensors (B, C, H, W) of any B.
        """
        count = 0
        self.mean.zero_()
        for piece in pieces():
            count += len(piece)
            self.mean += piece.flatten(1).sum(0)
        self.mean /= count
        covariance = self.weight.new_zeros(len(self.mean), len(self.mean))
        for piece in pieces():
            centred = piece.flatten(1) - self.mean
            covariance.addmm_(centred.mT, centred, alpha=1 / count)
        variances, directions = torch.linalg.eigh(covariance)
        scaled = directions.mT / (variances[:, None] + EPS).sqrt()
        self.weight.copy_(scaled[-len(self.weight) :])
        self.filled.fill_(1)

    def forward(self, images: Tensor) -> Tensor:
        """Projects normalised float images (B, C, H, W) to (B, components)."""
        return (images.flatten(1) - self.mean) @ self.weight.mT
