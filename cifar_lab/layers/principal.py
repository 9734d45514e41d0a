"""A first layer that is computed instead of trained: the principal components of whole images.

An image is projected onto the directions in which the training images vary most. Each projection is
divided by its standard deviation over the training images, so the next layer receives uncorrelated
inputs of equal variance. The directions in which images vary least, which are the finest details,
are left out.

Source: Lin, Memisevic and Konda, "How far can we go without convolution: Improving fully-connected
networks", https://arxiv.org/abs/1511.02580, where the first layer is such a whitening.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

EPS = 1e-2  # added to the variances; the images have unit variance


class PrincipalComponents(nn.Module):
    """A fixed linear layer from normalized float images (B, C, H, W) to (B, components).

    The component of the largest variance is last. The weight is random until ``fill`` is called.

    Args:
        inputs: number of values of an image, C · H · W.
        components: number of outputs, from 1 to ``inputs``.
    """

    weight: Tensor
    mean: Tensor
    filled: Tensor

    def __init__(self, inputs: int, components: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(components, inputs) / inputs**0.5)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("filled", torch.tensor(0.0))  # a float, so that it can be averaged

    def fill(self, pieces: Callable[[], Iterable[Tensor]]) -> None:
        """Compute the layer from images, without converting all of them to floats at once.

        ``pieces`` is called twice and returns all images each time, in batches of any size.
        """
        count = 0
        dtype = torch.promote_types(self.mean.dtype, torch.float32)  # the layer may be bf16
        mean = torch.zeros_like(self.mean, dtype=dtype)
        for piece in pieces():
            count += len(piece)
            mean += piece.flatten(1).sum(0, dtype=dtype)
        mean /= count
        covariance = mean.new_zeros(len(mean), len(mean))
        for piece in pieces():
            centred = piece.flatten(1) - mean
            covariance.addmm_(centred.mT, centred, alpha=1 / count)
        variances, directions = torch.linalg.eigh(covariance)
        scaled = directions.mT / (variances[:, None] + EPS).sqrt()
        self.weight.copy_(scaled[-len(self.weight) :])
        self.mean.copy_(mean)
        self.filled.fill_(1)

    def forward(self, images: Tensor) -> Tensor:
        """Project images onto the components."""
        return (images.flatten(1) - self.mean) @ self.weight.mT
