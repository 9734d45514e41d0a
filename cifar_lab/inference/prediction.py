"""What a model sees in image files: its most probable classes, in the order of the files.

Files are read a batch at a time, so that it does not matter how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cifar_lab.errors import UserError
from cifar_lab.inference.exact import whole_float32
from cifar_lab.inference.images import read_image
from cifar_lab.models.classifier import ImageClassifier


@dataclass(frozen=True)
class Prediction:
    """One file.

    Attributes:
        path: of the file.
        classes: names and probabilities from 0 to 1, the most probable first; empty after an error.
        error: why there are none, in a line that begins with the path; else None.
    """

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str | None = None


def predict(
    model: ImageClassifier, paths: Sequence[Path], *, batch_size: int = 500, top: int = 3
) -> Iterator[Prediction]:
    """Gives a prediction for each file, in their order.

    Args:
        model: in ``eval`` mode, on the device that is to compute.
        paths: image files of any size, mode and format; see images.py for what becomes of them.
        batch_size: files read and predicted at a time.
        top: classes of an image; all where there are fewer.
    """
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        results = [_read(path) for path in batch]
        images = [result for result in results if not isinstance(result, str)]
        classes = iter(_classes(model, images, top))
        for path, result in zip(batch, results, strict=True):
            if isinstance(result, str):
                yield Prediction(path, error=result)
            else:
                yield Prediction(path, next(classes))


def _read(path: Path) -> np.ndarray | str:
    """The image, or what is wrong with it."""
    try:
        return read_image(path)
    except UserError as error:
        return str(error)


@torch.inference_mode()
def _classes(
    model: ImageClassifier, images: list[np.ndarray], top: int
) -> list[tuple[tuple[str, float], ...]]:
    """The ``top`` most probable classes of each image."""
    if not images:
        return []
    batch = torch.from_numpy(np.stack(images)).to(model.device)
    with whole_float32():
        found = model.predict_step(batch, 0)
    if not found.isfinite().all():
        raise UserError("the model's answers are not finite; its weights may be too large")
    probabilities, labels = found.sort(dim=1, descending=True, stable=True)
    names = model.class_names or [str(label) for label in range(model.num_classes)]
    rows = zip(labels[:, :top].tolist(), probabilities[:, :top].tolist(), strict=True)
    return [tuple((names[n], p) for n, p in zip(*row, strict=True)) for row in rows]
