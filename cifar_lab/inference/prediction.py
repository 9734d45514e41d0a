"""The most probable classes of image files, in the order of the files.

Files are read a batch at a time, so that memory does not limit their number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cifar_lab.errors import UserError
from cifar_lab.inference.images import read_image
from cifar_lab.inference.logits import whole_float32
from cifar_lab.models.classifier import ImageClassifier

DRAWN = 24  # largest number of images in a figure


@dataclass(frozen=True)
class Prediction:
    """The prediction for a file."""

    path: Path
    # Names and probabilities from 0 to 1, the most probable first; empty after an error.
    classes: tuple[tuple[str, float], ...] = ()
    # Whether the highest probability is below the threshold of the calibration; None without one.
    unlike: bool | None = None
    image: np.ndarray | None = None  # as the model sees it, uint8 (3, 32, 32)
    error: str | None = None  # one-line error message that begins with the path


def predict(
    model: ImageClassifier, paths: Sequence[Path], *, batch_size: int = 500, top: int = 3
) -> Iterator[Prediction]:
    """Yield a prediction for each file, in their order, from a model in ``eval`` mode.

    Images may have any size, mode and format; data/pixels.py describes their conversion. ``top`` is
    the number of classes for each image; if there are fewer, all are returned.

    Raises:
        UserError: The probabilities are not finite.
    """
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        images: list[np.ndarray] = []
        errors: dict[int, str] = {}
        for number, path in enumerate(batch):
            try:
                images.append(read_image(path))
            except UserError as error:
                errors[number] = str(error)
        found = zip(images, *_classes(model, images, top), strict=True)
        for number, path in enumerate(batch):
            if number in errors:
                yield Prediction(path, error=errors[number])
            else:
                image, classes, unlike = next(found)
                yield Prediction(path, classes, unlike, image)


@torch.inference_mode()
def _classes(
    model: ImageClassifier, images: list[np.ndarray], top: int
) -> tuple[list[tuple[tuple[str, float], ...]], list[bool | None]]:
    """Return for each image its ``top`` most probable classes, and whether it is like none."""
    if not images:
        return [], []
    batch = torch.from_numpy(np.stack(images)).to(model.device)
    with whole_float32():
        found = model.predict_step(batch, 0)
    if not found.isfinite().all():
        raise UserError("the model's probabilities are not finite; its weights may be too large")
    probabilities, labels = found.sort(dim=1, descending=True, stable=True)
    names = model.class_names or [str(label) for label in range(model.num_classes)]
    rows = zip(labels[:, :top].tolist(), probabilities[:, :top].tolist(), strict=True)
    classes = [tuple((names[n], p) for n, p in zip(*row, strict=True)) for row in rows]
    known = model.calibration
    return classes, known.unlike(found).tolist() if known else [None] * len(images)
