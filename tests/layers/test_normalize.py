"""Normalize: raw pixels to floats."""

import pytest
import torch

from cifar_lab.data.statistics import CIFAR10_MEAN, CIFAR10_STD
from cifar_lab.layers.normalize import Normalize

IMAGES = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


def test_standardize_is_that_of_the_scale_0_to_1() -> None:
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    expected = (IMAGES.float() / 255 - mean) / std
    torch.testing.assert_close(Normalize("standardize")(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_mean_image_subtracts_one_mean_a_pixel_and_divides_by_nothing() -> None:
    normalize = Normalize("mean_image")
    mean = IMAGES.float().mean(0)
    normalize.fill(mean, torch.ones(3, 32, 32))
    torch.testing.assert_close(normalize(IMAGES), IMAGES.float() - mean)
    assert normalize(IMAGES).dtype == torch.float32


def test_floats_are_refused_as_they_may_be_normalised_already() -> None:
    with pytest.raises(TypeError, match=r"raw uint8 images .*got torch.float32"):
        Normalize("standardize")(IMAGES.float())
