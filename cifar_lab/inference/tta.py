"""Test-time augmentation: a model's mean logits over views of each image.

A view is the image or its mirror image, shifted or not. Logits are averaged, not
probabilities: the published numbers that these results compare with were made so, and one view that
is very sure does not outvote the others. The mean of logits is the geometric mean of probabilities,
normalised again; loss and calibration are those of that softmax.

Source of the first two: cifar10-airbench, levels 1 and 2 of its ``infer``, with the same weights
(https://github.com/KellerJordan/cifar10-airbench; "94% on CIFAR-10 in 3.29 Seconds on a Single
GPU", https://arxiv.org/abs/2404.00498). There normalised images are shifted, here raw ones, which
are normalised after it; with channel statistics that is the same. The third is for models that see
a shifted image as another one, as fully connected networks do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cifar_lab.data.augment import reflect

GRID = (-3, 0, 3)  # pixels, within those by which fast_mlp's images are shifted in training
# Of each kind: pixels (down, right) -> weight of that view and its mirror image together.
SHIFTS: dict[str, dict[tuple[int, int], float]] = {
    "flip": {(0, 0): 1.0},
    "flip_shift": {(0, 0): 0.5, (1, 1): 0.25, (-1, -1): 0.25},
    "flip_grid": {(down, right): 1 / 9 for down in GRID for right in GRID},
}


def tta_logits(model: Callable[[Tensor], Tensor], images: Tensor, kind: str) -> Tensor:
    """A model's logits, averaged over the views of each image.

    Args:
        model: maps uint8 images (B, 3, 32, 32) to logits (B, C).
        images: uint8 (B, 3, 32, 32).
        kind: "none"; "flip": the image and its mirror image, a half each; "flip_shift": these with
            a quarter each, and with an eighth each the same two, shifted by one pixel down and to
            the right, and by one up and to the left; "flip_grid": all nine shifts by three pixels
            or none each way, and their mirror images, 18 views of one weight.

    Returns:
        Logits, float32 (B, C).

    Raises:
        KeyError: another ``kind``.
    """
    if kind == "none":
        return model(images).float()
    views = (
        weight / 2 * (model(shifted).float() + model(shifted.flip(-1)).float())
        for shifted, weight in ((shift(images, *by), weight) for by, weight in SHIFTS[kind].items())
    )
    return torch.stack(list(views)).sum(0)


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Moves images; the border is filled by reflection, as in training.

    Args:
        images: (B, C, H, W) of any dtype.
        down: pixels, less than H either way; below 0 is up.
        right: pixels, less than W either way; below 0 is to the left.

    Returns:
        Images of the same shape and dtype: pixel (y, x) is that at (y - down, x - right).
    """
    height, width = images.shape[-2:]
    rows = reflect(torch.arange(height, device=images.device) - down, height)
    columns = reflect(torch.arange(width, device=images.device) - right, width)
    return images[..., rows[:, None], columns]
