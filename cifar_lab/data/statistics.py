"""Statistics that normalisation needs, from uint8 images and without a float copy of them.

Both kinds are on the scale of the pixels, 0–255: a network sees ``(image - mean) / std``.
"""

from __future__ import annotations

import numpy as np

# Channel mean and standard deviation of the 50,000 training images of CIFAR-10 on the scale 0–1,
# over all pixels. (The 0.2023, 0.1994, 0.2010 often seen is the mean of the standard deviations of
# single images, a smaller number.)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

_CHUNK = 1000  # images summed at a time, so that memory stays small


def mean_image(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The mean of the chosen images, one value a pixel and channel.

    Args:
        images: uint8 (N, C, H, W).
        indices: int64 (M,), M > 0.

    Returns:
        float32 (C, H, W) in 0–255. The sum is exact; only the division rounds.
    """
    total = np.zeros(images.shape[1:], dtype=np.int64)
    for start in range(0, len(indices), _CHUNK):
        total += images[indices[start : start + _CHUNK]].sum(0, dtype=np.int64)
    return (total / len(indices)).astype(np.float32)


def channel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all pixels of the chosen images.

    Args:
        images: uint8 (N, C, H, W).
        indices: int64 (M,), M > 0.

    Returns:
        Two float32 arrays (C, 1, 1), on the scale 0–255. They come from a histogram of the 256
        pixel values, so no image is made float. A channel of one value has a deviation of 1.
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
