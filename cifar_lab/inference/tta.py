"""Test-time augmentation: a model's mean logits over views of each image.

A view is the image or its mirror image, shifted by a pixel or not. Logits are averaged, not
probabilities: the published numbers that these results compare with were made so, and one view that
is very sure does not outvote the others. The mean of logits is the geometric mean of probabilities,
normalised again; loss and calibration are those of that softmax.

Source: cifar10-airbench, levels 1 and 2 of its ``infer``, with the same weights
(https://github.com/KellerJordan/cifar10-airbench; "94% on CIFAR-10 in 3.29 Seconds on a Single
GPU", https://arxiv.org/abs/2404.00498). There normalised images are shifted, here raw ones, which
are normalised after it; with channel statistics that is the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Of each kind: pixels down and to the right -> weight of that view and its mirror image together.
SHIFTS: dict[str, dict[int, float]] = {
    "flip": {0: 1.0},
    "flip_shift": {0: 0.5, 1: 0.25, -1: 0.25},
}


def tta_logits(model: Callable[[Tensor], Tensor], images: Tensor, kind: str) -> Tensor:
    """A model's logits, averaged over the views of each image.

    Args:
        model: maps uint8 images (B, 3, 32, 32) to logits (B, C).
        images: uint8 (B, 3, 32, 32).
        kind: "none"; "flip": the image and its mirror image, a half each; "flip_shift": these with
            a quarter each, and with an eighth each the same two, shifted by one pixel down and to
            the right, and by one up and to the left.

    Returns:
        Logits, float32 (B, C).

    Raises:
        KeyError: another ``kind``.
    """
    if kind == "none":
        return model(images).float()
    views = (
        weight / 2 * (model(shifted).float() + model(shifted.flip(-1)).float())
        for shifted, weight in ((shift(images, n), weight) for n, weight in SHIFTS[kind].items())
    )
    return torch.stack(list(views)).sum(0)


def shift(images: Tensor, pixels: int) -> Tensor:
    """Moves images down and to the right; the border is filled by reflection, as in training.

    Args:
        images: (B, C, H, H) of any dtype.
        pixels: less than H either way; below 0 is up and to the left.

    Returns:
        Images of the same shape and dtype: pixel (y, x) is that at (y - pixels, x - pixels).
    """
    last = images.shape[-1] - 1
    source = (torch.arange(last + 1, device=images.device) - pixels).abs()
    source = last - (last - source).abs()
    return images[..., source[:, None], source]
