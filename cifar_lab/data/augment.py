"""Batched augmentation of uint8 images: flips, crops and cutout.

Every function takes uint8 images (B, C, H, W) in 0–255 and a generator on their device, and gives
new images of the same shape, dtype and device. Each image of the batch draws its own parameters;
the work is done for the whole batch at once, without a loop over images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_lab.errors import UserError

Augmentation = Callable[[Tensor, torch.Generator], Tensor]

CROP_PADDING = 4  # pixels; the shift of "Deep Residual Learning" (arXiv 1512.03385, section 4.2)
CUTOUT_SIZE = 8  # pixels; a quarter of the side


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each image left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, generator: torch.Generator, padding: int = CROP_PADDING) -> Tensor:
    """Shifts each image by up to ``padding`` pixels each way; the border is filled by reflection.

    Reflection needs no fill colour, so it means the same under every normalisation.
    """
    height, width = images.shape[-2:]
    padded = _reflect(images, padding)
    top, left = _offsets(len(images), 2 * padding + 1, generator, images.device)
    rows = (top[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    samples = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[samples, channels, rows, columns]


def cutout(images: Tensor, generator: torch.Generator, size: int = CUTOUT_SIZE) -> Tensor:
    """Covers one square of ``size`` pixels an image, its centre anywhere, with the image's mean.

    Source: "Improved Regularization of Convolutional Neural Networks with Cutout"
    (https://arxiv.org/abs/1708.04552). There the square is zero after normalisation, the mean of
    the training set; here it is the mean colour of the image, so no statistics are needed.
    """
    height, width = images.shape[-2:]
    y = torch.randint(height, (len(images), 1), generator=generator, device=images.device)
    x = torch.randint(width, (len(images), 1), generator=generator, device=images.device)
    rows = (torch.arange(height, device=images.device) - y + size // 2).div(
        size, rounding_mode="floor"
    )
    columns = (torch.arange(width, device=images.device) - x + size // 2).div(
        size, rounding_mode="floor"
    )
    covered = (rows == 0)[:, None, :, None] & (columns == 0)[:, None, None, :]
    mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
    return torch.where(covered, mean, images)


AUGMENTATIONS: dict[str, Augmentation] = {"flip": flip, "crop": crop, "cutout": cutout}


def compose(names: Iterable[str]) -> Augmentation | None:
    """Gives one function that applies the named augmentations in order, or None for no names.

    Raises:
        UserError: a name that is not in ``AUGMENTATIONS``.
    """
    names = list(names)
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise UserError(f"augment {unknown[0]!r}: expected some of {', '.join(AUGMENTATIONS)}")
    if not names:
        return None
    functions = [AUGMENTATIONS[name] for name in names]

    def apply(images: Tensor, generator: torch.Generator) -> Tensor:
        for function in functions:
            images = function(images, generator)
        return images

    return apply


def _reflect(images: Tensor, padding: int) -> Tensor:
    """Pads by reflection; through float on devices where uint8 has no kernel for it."""
    return F.pad(images.float(), [padding] * 4, mode="reflect").to(images.dtype)


def _offsets(
    count: int, high: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    offsets = torch.randint(high, (2, count), generator=generator, device=device)
    return offsets[0], offsets[1]
