"""The principal components: uncorrelated, of unit variance, those of the largest variance."""

import torch

from cifar_lab.layers.principal import EPS, PrincipalComponents


def _filled() -> tuple[torch.Tensor, PrincipalComponents]:
    """Smooth images with a mean, whose neighbouring pixels are correlated, and their layer."""
    torch.manual_seed(0)
    images = torch.nn.functional.avg_pool2d(torch.randn(800, 3, 8, 8), 3, stride=1) + 5
    layer = PrincipalComponents(108, 20)
    layer.fill(lambda: images.split(300))
    return images, layer


def test_the_outputs_on_its_own_images_are_white() -> None:
    images, layer = _filled()
    outputs = layer(images).double()
    assert outputs.shape == (800, 20)
    torch.testing.assert_close(outputs.mean(0), torch.zeros(20).double(), atol=1e-5, rtol=0)
    covariance = outputs.mT @ outputs / len(outputs)
    off_diagonal = covariance - covariance.diagonal().diag()
    assert off_diagonal.abs().max() < 1e-4
    flat = images.flatten(1).double()
    variances = torch.linalg.eigvalsh((flat - flat.mean(0)).mT @ (flat - flat.mean(0)) / 800)[-20:]
    torch.testing.assert_close(
        covariance.diagonal(), variances / (variances + EPS), rtol=1e-4, atol=0
    )


def test_what_it_leaves_out_varies_least() -> None:
    images, layer = _filled()
    directions = torch.nn.functional.normalize(layer.weight)
    centred = images.flatten(1) - images.flatten(1).mean(0)
    kept = (centred @ directions.mT).square().sum()
    _, values, _ = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(kept, values[:20].square().sum(), rtol=1e-4, atol=0)
