"""What a model answers to all images of a split."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from cifar_lab.data.loader import BatchLoader
from cifar_lab.inference.exact import whole_float32
from cifar_lab.inference.known_data import KnownSplit
from cifar_lab.inference.tta import tta_logits
from cifar_lab.models.classifier import ImageClassifier


def split_logits(
    model: ImageClassifier, known: KnownSplit, batch_size: int, tta: str
) -> tuple[Tensor, Tensor]:
    """Logits, float32 (N, C), and labels, int64 (N,), of a split, on the CPU.

    Args:
        model: in ``eval`` mode; the images are moved to its device, where they stay uint8.
        known: the images.
        batch_size: images at a time.
        tta: test-time augmentation, as ``tta_logits`` takes it.
    """
    loader = BatchLoader(
        torch.from_numpy(known.images).to(model.device),
        torch.from_numpy(known.labels).to(model.device),
        torch.from_numpy(known.indices),
        batch_size,
    )
    with torch.inference_mode(), whole_float32():  # the bar: only on a terminal, on stderr
        parts = [
            (tta_logits(model, images, tta), labels)
            for images, labels in tqdm(loader, "evaluating", leave=False, disable=None)
        ]
    logits, labels = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return logits, labels
