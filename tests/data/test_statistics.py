"""Statistics for normalisation, against NumPy on floats."""

import numpy as np

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.statistics import CIFAR10_MEAN, CIFAR10_STD, channel_statistics, mean_image

IMAGES = np.random.RandomState(0).randint(0, 256, (2500, 3, 32, 32)).astype(np.uint8)
IMAGES[:, 1] //= 3


def test_mean_image_is_the_mean_of_the_chosen_images() -> None:
    chosen = np.arange(0, 2500, 2)
    expected = IMAGES[chosen].astype(np.float64).mean(0)
    np.testing.assert_allclose(mean_image(IMAGES, chosen), expected, rtol=1e-6)


def test_channel_statistics_are_those_over_all_pixels() -> None:
    chosen = np.arange(5, 2405)
    mean, std = channel_statistics(IMAGES, chosen)
    pixels = IMAGES[chosen].astype(np.float64)
    np.testing.assert_allclose(mean.ravel(), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.ravel(), pixels.std((0, 2, 3)), rtol=1e-6)


def test_a_channel_of_one_value_has_a_deviation_of_one() -> None:
    _, std = channel_statistics(np.full((4, 3, 32, 32), 7, dtype=np.uint8), np.arange(4))
    assert std.ravel().tolist() == [1, 1, 1]


def test_the_published_constants_are_those_of_real_training_images(real_data: str) -> None:
    data = CIFAR10DataModule(real_data, source="cifar10", val_size=0)
    data.setup()
    mean, std = channel_statistics(data.image_set.train_images, np.arange(50_000))
    # A JPEG copy differs by up to 0.002; the mistaken 0.2023 differs by 0.045.
    np.testing.assert_allclose(mean.ravel() / 255, CIFAR10_MEAN, atol=3e-3)
    np.testing.assert_allclose(std.ravel() / 255, CIFAR10_STD, atol=3e-3)
