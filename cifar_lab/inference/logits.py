"""The logits of a model for all images of a split, optionally averaged over views of each image.

Test-time augmentation: a view is the image or its mirror image, shifted or not. Logits are
averaged, not probabilities: the published results that these are compared with were computed in
this way, and a single confident view does not outvote the others. The mean of the logits gives the
normalized geometric mean of the probabilities, from which loss and calibration are computed.

Source of "flip" and "flip_shift": cifar10-airbench, levels 1 and 2 of its ``infer``, with the same
weights (https://github.com/KellerJordan/cifar10-airbench; "94% on CIFAR-10 in 3.29 Seconds on a
Single GPU", https://arxiv.org/abs/2404.00498). It shifts normalized images. Here raw images are
shifted and then normalized, which is the same for channel statistics. "flip_grid" is for models
that are not built to handle shifts, such as fully connected networks.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.backends import cudnn
from tqdm import tqdm

from cifar_lab.data.augment import reflect
from cifar_lab.data.loader import BatchLoader, Split
from cifar_lab.inference.known_data import KnownSplit
from cifar_lab.models.classifier import ImageClassifier

GRID = (-3, 0, 3)  # pixels, within the shifts that fast_mlp is trained with
# For each kind: shifts (down, right) in pixels, and the weight of a view and its mirror together.
SHIFTS: dict[str, dict[tuple[int, int], float]] = {
    "flip": {(0, 0): 1.0},
    "flip_shift": {(0, 0): 0.5, (1, 1): 0.25, (-1, -1): 0.25},
    "flip_grid": {(down, right): 1 / 9 for down in GRID for right in GRID},
}


def split_logits(
    model: ImageClassifier, known: KnownSplit, batch_size: int, tta: str
) -> tuple[Tensor, Tensor]:
    """Return the logits, float32 (N, C), and the labels, int64 (N,), of a split, on the CPU.

    The model is in ``eval`` mode; the images are moved to its device, where they stay uint8.
    ``tta`` is the kind of test-time augmentation for :func:`tta_logits`.
    """
    images, labels, indices = map(torch.from_numpy, (known.images, known.labels, known.indices))
    split = Split(images.to(model.device), labels.to(model.device), indices)
    loader = BatchLoader(split, batch_size)
    bar = tqdm(loader, "evaluating", leave=False, disable=None)  # None: on terminals only
    with torch.inference_mode(), whole_float32():
        parts = [(tta_logits(model, images, tta), labels) for images, labels in bar]
    logits, labels = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return logits, labels


def whole_float32() -> AbstractContextManager[None]:
    """Return a context in which a GPU's convolutions are not rounded to TF32, which has 10 bits.

    Every device then computes in full float32. By default, PyTorch lets cuDNN round since 1.7;
    matrix products are not affected
    (https://docs.pytorch.org/docs/stable/notes/cuda.html, "TensorFloat-32").
    """
    as_they_are = ("enabled", "benchmark", "deterministic")
    return cudnn.flags(**{name: getattr(cudnn, name) for name in as_they_are}, allow_tf32=False)


def tta_logits(model: Callable[[Tensor], Tensor], images: Tensor, kind: str) -> Tensor:
    """Return a model's logits, float32 (B, C), averaged over the views of each image.

    The model maps uint8 images (B, 3, 32, 32) to logits (B, C). The kinds are:

    - "none": the image alone.
    - "flip": the image and its mirror image, each with weight 1/2.
    - "flip_shift": these two with weight 1/4, and with 1/8 the same two shifted by one pixel down
      and to the right, and by one pixel up and to the left.
    - "flip_grid": shifts by -3, 0 or 3 pixels in each direction, and their mirror images; 18 views
      of equal weight.
    """
    if kind == "none":
        return model(images).float()
    views = (
        weight / 2 * (model(shifted).float() + model(shifted.flip(-1)).float())
        for shifted, weight in ((shift(images, *by), weight) for by, weight in SHIFTS[kind].items())
    )
    return torch.stack(list(views)).sum(0)


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Return images (B, C, H, W) whose pixel (y, x) was at (y - down, x - right).

    The border is filled by reflection, as in training. Negative numbers shift up or to the left.
    """
    height, width = images.shape[-2:]
    rows = reflect(torch.arange(height, device=images.device) - down, height)
    columns = reflect(torch.arange(width, device=images.device) - right, width)
    return images[..., rows[:, None], columns]
