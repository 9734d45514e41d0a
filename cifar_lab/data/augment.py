"""Batched augmentation of uint8 images: flips, crops and cutout.

Every function takes uint8 images (B, C, H, W) in 0–255 and what decides the draw, and gives new
images of the same shape, dtype and device. Each image of the batch draws its own parameters; the
work is done for the whole batch at once, without a loop over images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError

CROP_PADDING = 4  # pixels; the shift of "Deep Residual Learning" (arXiv 1512.03385, section 4.2)
CUTOUT_SIZE = 8  # pixels; a quarter of the side. The source takes 16, for runs of 200 epochs.


@dataclass(frozen=True)
class Draw:
    """What decides how the images of one batch are changed.

    Attributes:
        generator: on the images' device, at a state of these images alone.
        indices: int64 (B,), which images these are; on any device.
        epoch: how often they were seen before.
        seed: of the run.
    """

    generator: torch.Generator
    indices: Tensor
    epoch: int = 0
    seed: int = 0


Augmentation = Callable[[Tensor, Draw], Tensor]


def flip(images: Tensor, draw: Draw) -> Tensor:
    """Mirrors each image left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=draw.generator, device=images.device) < 0.5
    return _mirror(images, mirrored)


def alternating_flip(images: Tensor, draw: Draw) -> Tensor:
    """Mirrors each image in every other epoch; a random half of the images begins mirrored.

    In any two epochs in a row the network sees both sides of each image, instead of the same side
    twice for half of them. Source: "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"
    (https://arxiv.org/abs/2404.00498), section 3.6. Here the half is the lowest bit of a hash of
    (seed, image), so that a run which goes on needs no memory of it.
    """
    mirrored = ((_hash(draw.indices, draw.seed) + draw.epoch) & 1).bool()
    return _mirror(images, mirrored.to(images.device))


def crop(images: Tensor, draw: Draw, padding: int = CROP_PADDING) -> Tensor:
    """Shifts each image by up to ``padding`` pixels each way; the border is filled by reflection.

    Reflection needs no fill colour, so it means the same under every normalisation.
    """
    height, width = images.shape[-2:]
    top, left = _offsets(len(images), 2 * padding + 1, draw.generator, images.device)
    rows = reflect(top[:, None] - padding + torch.arange(height, device=images.device), height)
    columns = reflect(left[:, None] - padding + torch.arange(width, device=images.device), width)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # (B, H * W)
    pixels = pixels[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, pixels).view(images.shape)


def cutout(images: Tensor, draw: Draw, size: int = CUTOUT_SIZE) -> Tensor:
    """Covers one square of ``size`` pixels an image, its centre anywhere, with the image's mean.

    Source: "Improved Regularization of Convolutional Neural Networks with Cutout"
    (https://arxiv.org/abs/1708.04552). There the square is zero after normalisation, the mean of
    the training set; here it is the mean colour of the image, so no statistics are needed.
    """
    height, width = images.shape[-2:]
    y = torch.randint(height, (len(images), 1), generator=draw.generator, device=images.device)
    x = torch.randint(width, (len(images), 1), generator=draw.generator, device=images.device)
    rows = (torch.arange(height, device=images.device) - y + size // 2).div(
        size, rounding_mode="floor"
    )
    columns = (torch.arange(width, device=images.device) - x + size // 2).div(
        size, rounding_mode="floor"
    )
    covered = (rows == 0)[:, None, :, None] & (columns == 0)[:, None, None, :]
    mean = images.float().mean((2, 3), keepdim=True).to(images.dtype)
    return _where(covered, mean, images)


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": flip,
    "alternating_flip": alternating_flip,
    "crop": crop,
    "cutout": cutout,
}


def compose(names: Iterable[str], crop_padding: int = CROP_PADDING) -> Augmentation | None:
    """Gives one function that applies the named augmentations in order, or None for no names.

    Args:
        names: keys of ``AUGMENTATIONS``.
        crop_padding: pixels that ``crop`` shifts by at most, 0 to 31.

    Raises:
        UserError: a name that is not in ``AUGMENTATIONS``, or a padding out of its range.
    """
    if not 0 <= crop_padding < IMAGE_SHAPE[-1]:
        raise UserError(f"crop_padding {crop_padding}: expected 0 to {IMAGE_SHAPE[-1] - 1} pixels")
    names = list(names)
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise UserError(f"augment {unknown[0]!r}: expected some of {', '.join(AUGMENTATIONS)}")
    if not names:
        return None
    known: dict[str, Augmentation] = {**AUGMENTATIONS, "crop": partial(crop, padding=crop_padding)}

    def apply(images: Tensor, draw: Draw) -> Tensor:
        for name in names:
            images = known[name](images, draw)
        return images

    return apply


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    return _where(mirrored[:, None, None, None], images.flip(-1), images)


def _where(condition: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """``torch.where`` of integers; three times as fast on the CPU if the condition is broadcast."""
    return images * condition + others * ~condition


def _hash(numbers: Tensor, seed: int) -> Tensor:
    """Mixes int64 numbers (B,) with a seed, so that every bit depends on every bit.

    SplitMix64, its constants without their highest bit; int64 products wrap around.
    """
    mixed = numbers + ((seed + 1) * 0x1E3779B97F4A7C15 & (2**63 - 1))
    for shift, factor in ((30, 0x3F58476D1CE4E5B9), (27, 0x14D049BB133111EB)):
        mixed = (mixed ^ (mixed >> shift)) * factor
    return mixed ^ (mixed >> 31)


def reflect(positions: Tensor, size: int) -> Tensor:
    """Positions outside of 0 to size - 1 mirrored at the pixels of the border, as in F.pad."""
    return size - 1 - (size - 1 - positions.abs()).abs()


def _offsets(
    count: int, high: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    offsets = torch.randint(high, (2, count), generator=generator, device=device)
    return offsets[0], offsets[1]
