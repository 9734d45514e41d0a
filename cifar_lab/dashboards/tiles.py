"""Many small images as one: a training batch, and the weights of the first layer."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, prod, sqrt

import numpy as np
from torch import Tensor

from cifar_lab.data.image_set import IMAGE_SHAPE

SHOWN = 64  # tiles of a sheet
GAP = 2  # pixels between tiles
TILE = 64  # pixels that a tile is enlarged to


def batch_sheet(images: Tensor) -> np.ndarray:
    """Lays out the first images of a batch as they enter the model, before it normalises them.

    Args:
        images: uint8 (B, 3, 32, 32).

    Returns:
        uint8 (H, W, 3).
    """
    return _sheet(images[:SHOWN].cpu().numpy())


def weight_sheet(parameters: Iterable[Tensor]) -> np.ndarray | None:
    """Lays out what the units of the first layer look at.

    The weights of a unit are an image: of 32×32 for a linear layer, of the kernel's size for a
    convolution. Each image has its own scale, so that also weights near zero show their pattern:
    mid-grey is 0 or not finite, black and white are ± the largest weight.

    Args:
        parameters: of a network, in order; the first with two or more axes is taken, but for the
            lengths of its units where weight normalisation keeps them apart.

    Returns:
        uint8 (H, W, 3), or None where the weights do not look at images.
    """
    weight = next((p for p in parameters if p.ndim > 1 and p[0].numel() > 1), None)
    if weight is None:
        return None
    array = weight.detach()[:SHOWN].float().nan_to_num(0, 0, 0).cpu().numpy()
    if array.ndim == 2 and array.shape[1] == prod(IMAGE_SHAPE):
        array = array.reshape(-1, *IMAGE_SHAPE)
    if array.ndim != 4 or array.shape[1] != IMAGE_SHAPE[0]:
        return None
    largest = np.abs(array).max(axis=(1, 2, 3), keepdims=True)
    scaled = 127.5 + 127.5 * array / np.where(largest > 0, largest, 1)
    return _sheet(scaled.astype(np.uint8))


def _sheet(images: np.ndarray) -> np.ndarray:
    """Puts uint8 images (N, 3, h, w), enlarged, on a white square sheet (H, W, 3)."""
    zoom = max(1, TILE // images.shape[-1])
    images = images.repeat(zoom, axis=2).repeat(zoom, axis=3).transpose(0, 2, 3, 1)
    columns = ceil(sqrt(len(images)))
    rows = ceil(len(images) / columns)
    height, width = images.shape[1] + GAP, images.shape[2] + GAP
    sheet = np.full((rows * height - GAP, columns * width - GAP, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height - GAP, left : left + width - GAP] = image
    return sheet
