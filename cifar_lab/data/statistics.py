"""Normalization statistics, computed from uint8 images without a floating-point copy of them.

All of them are on the scale of the pixels, 0–255. A network receives ``(image - mean) / std``.
"""

import numpy as np

from cifar_lab.data.image_set import ImageSet

# Channel mean and standard deviation of all pixels of CIFAR-10's 50,000 training images, on the
# scale 0–1. (The often-used 0.2023, 0.1994, 0.2010 is the mean of the standard deviations of single
# images, which is smaller.)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

_CHUNK = 1000  # images summed at a time, to save memory


def normalization(
    image_set: ImageSet, indices: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation by which a model normalizes.

    Args:
        image_set: images of all splits.
        indices: int64 (M,), positions of the training split's images.
        kind: "mean_image" (mean of the training split, and no division) or "standardize" (mean and
            standard deviation of each channel: the published values for the original CIFAR-10,
            otherwise computed from the training split).

    Returns:
        Two float32 arrays, (3, 32, 32) or (3, 1, 1), on the scale 0–255.
    """
    if kind == "mean_image":
        mean = mean_image(image_set.train_images, indices)
        return mean, np.ones_like(mean)
    if image_set.source != "cifar10":
        return channel_statistics(image_set.train_images, indices)
    mean, std = (
        np.float32(255) * np.array(values, dtype=np.float32).reshape(3, 1, 1)
        for values in (CIFAR10_MEAN, CIFAR10_STD)
    )
    return mean, std


def mean_image(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the mean of the images at ``indices``, float32 (C, H, W); the sum is exact."""
    total = np.zeros(images.shape[1:], dtype=np.int64)
    for start in range(0, len(indices), _CHUNK):
        total += images[indices[start : start + _CHUNK]].sum(0, dtype=np.int64)
    return (total / len(indices)).astype(np.float32)


def channel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel, two float32 arrays (C, 1, 1).

    They are computed from a histogram of the 256 pixel values. A constant channel gets a standard
    deviation of 1.
    """
    channels = images.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(indices), _CHUNK):
        chunk = images[indices[start : start + _CHUNK]]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    weights = counts / counts.sum(1, keepdims=True)
    values = np.arange(256)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(1)
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    shape = (channels, 1, 1)
    return mean.reshape(shape).astype(np.float32), std.reshape(shape).astype(np.float32)
