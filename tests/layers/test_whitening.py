"""The whitening layer: its outputs are uncorrelated and of unit variance."""

import torch

from cifar_lab.layers.whitening import Whitening


def _images() -> torch.Tensor:
    """Smooth images: neighbouring pixels and channels are correlated."""
    torch.manual_seed(0)
    noise = torch.randn(60, 3, 20, 20)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1)
    return smooth + smooth.mean(1, keepdim=True)


def test_the_outputs_on_its_own_images_are_white() -> None:
    images = _images()
    layer = Whitening(3, 2)
    layer.fill(images)
    outputs = layer(images)
    assert outputs.shape == (60, 24, 17, 17)
    found = outputs[:, :12].permute(1, 0, 2, 3).flatten(1).double()
    covariance = found @ found.mT / found.shape[1]
    off_diagonal = covariance - covariance.diagonal().diag()
    assert off_diagonal.abs().max() < 1e-3
    # The constant beside the variances leaves the smallest a little below 1.
    assert covariance.diagonal().min() > 0.9
    assert covariance.diagonal().max() < 1.001
    assert covariance.diagonal()[-1] > 0.999
    torch.testing.assert_close(outputs[:, 12:], -outputs[:, :12])


def test_the_filters_are_those_of_the_patches_written_out() -> None:
    images = _images()[:3].double()
    patches = torch.stack(
        [
            image[:, row : row + 2, column : column + 2].flatten()
            for image in images
            for row in range(17)
            for column in range(17)
        ]
    )
    covariance = patches.mT @ patches / len(patches)
    layer = Whitening(3, 2).double()
    layer.fill(images)
    filters = layer.weight[:12].flatten(1)
    whitened = filters @ covariance @ filters.mT
    variances = torch.linalg.eigvalsh(covariance)
    torch.testing.assert_close(whitened, (variances / (variances + 5e-4)).diag(), atol=1e-9, rtol=0)
