"""The images of a split, with the same split as when the model of a checkpoint was trained.

A checkpoint holds the fingerprint of its training data and how they were split. The validation
split is therefore the one on which the model was selected, and holds no image that it was trained
on.
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.data import sources
from cifar_lab.data.image_set import ImageSet
from cifar_lab.data.progress import print_line
from cifar_lab.data.unknown import is_unused
from cifar_lab.errors import UserError
from cifar_lab.files import read_yaml
from cifar_lab.models.classifier import ImageClassifier


@dataclass(frozen=True)
class KnownSplit:
    """The images to evaluate."""

    image_set: ImageSet  # all images of the data
    images: np.ndarray  # uint8 (N, 3, 32, 32), the training or the test images of the data
    labels: np.ndarray  # int64 (N,), of these images
    indices: np.ndarray  # int64 (M,), ascending, of the images in the split


def load_split(
    model: ImageClassifier, split: str, data_dir: str | None, source: sources.Source
) -> KnownSplit:
    """Return a split of the data, with a warning if the test images differ from those in training.

    The default of ``data_dir`` is ``$CIFAR_LAB_DATA``, else ``./data``. The source "auto" means
    "synthetic" for a model that was trained on synthetic images, unless ``data_dir`` is given, and
    otherwise "cifar10", since other data say nothing about it. For "test", image folders need only
    the test split, and classes may have no images.

    Raises:
        UserError: The source is unknown; there are no data; they have different classes; the model
            has no such split; or, for "val" and "train", the model was trained on different images.
    """
    if source not in sources.SOURCES:
        raise UserError(f"source {source!r}: expected one of {', '.join(sources.SOURCES)}")
    _require_split(model.data, split)
    image_set = _read(model, data_dir, source)
    _check_classes(model, image_set)
    _check_fingerprint(model.data, image_set, split)
    if split == "test":
        images, labels = image_set.test_images, image_set.test_labels
        return KnownSplit(image_set, images, labels, np.arange(len(labels)))
    images, labels = image_set.train_images, image_set.train_labels
    train, val = image_set.split(model.data["val_size"], model.data["split_seed"])
    return KnownSplit(image_set, images, labels, val if split == "val" else train)


def data_dir_of_run(checkpoint: Path) -> str | None:
    """Return the data folder of the run that wrote a checkpoint, from its ``config.yaml``.

    It is None if there is no such file, if that folder has no images, or if ``$CIFAR_LAB_DATA`` is
    set.
    """
    parent = checkpoint.absolute().parent
    if os.environ.get("CIFAR_LAB_DATA") or parent.name != "checkpoints":
        return None
    with contextlib.suppress(UserError):  # the file or folder is missing, or was altered
        folder = read_yaml(parent.parent / "config.yaml").get("data_dir")
        if isinstance(folder, str) and sources.find(sources.resolve_folder(folder)):
            return folder
    return None


def _require_split(known: dict[str, Any], split: str) -> None:
    if split != "test" and not known.keys() >= {"fingerprint", "val_size", "split_seed"}:
        raise UserError(
            f"--split {split}: the checkpoint does not say how its data were split; "
            "--split test needs no such record"
        )
    if split == "val" and known["val_size"] == 0:
        raise UserError(
            "--split val: the model was trained with --val_size 0, on all training images; "
            "it has no validation split. Choose --split test or train"
        )


def where(
    model: ImageClassifier, data_dir: str | None, source: sources.Source
) -> tuple[Path | None, sources.Source]:
    """Return the data folder that is given, if it is needed, and the source to use for a model."""
    if source == "auto":
        is_synthetic = model.data.get("source") == "synthetic" and data_dir is None
        source = "synthetic" if is_synthetic else "cifar10"
    return None if source == "synthetic" else sources.resolve_folder(data_dir), source


def _read(model: ImageClassifier, data_dir: str | None, given: sources.Source) -> ImageSet:
    folder, source = where(model, data_dir, given)
    options: Any = {"classes": model.class_names, "report": print_line}
    only_there = given == "auto" and model.data.get("source") == "folder"  # no mirror has them
    is_empty = folder is None or is_unused(folder)
    if only_there and is_empty and not sources.find(folder, **options):
        advice = "The model was trained on image folders: name theirs with --data_dir"
        raise UserError(f"{folder or sources.DEFAULT_FOLDER}: no images here. {advice}")
    sources.prepare(folder, source, **options)
    return sources.load(folder, source, **options)


def _check_classes(model: ImageClassifier, image_set: ImageSet) -> None:
    found, expected = image_set.class_names, model.class_names
    if len(found) != model.num_classes:
        raise UserError(
            f"the model has {model.num_classes} classes{_listed(expected)}, the data have "
            f"{len(found)}{_listed(found)}: {image_set.description}"
        )
    for number, (ours, theirs) in enumerate(zip(expected or found, found, strict=True)):
        if ours != theirs:
            difference = f"class {number} is {ours!r} for the model and {theirs!r} in the data"
            raise UserError(f"{difference}: {image_set.description}")


def _listed(names: tuple[str, ...]) -> str:
    """Return at most ten names in parentheses, or an empty string for no names."""
    shown = names if len(names) <= 10 else (*names[:10], "…")
    return f" ({', '.join(shown)})" if shown else ""


def _check_fingerprint(known: dict[str, Any], image_set: ImageSet, split: str) -> None:
    """Warn about images that the model was not trained on, or raise an error for them."""
    trained_on = known.get("fingerprint")
    if trained_on in (None, image_set.fingerprint):
        return
    difference = (
        f"{image_set.description} has the fingerprint {image_set.fingerprint}, the model was "
        f"trained on {trained_on} ({known.get('source')})"
    )
    if split != "test":
        raise UserError(
            f"--split {split}: {difference}.\nImages of its training split could be among those "
            "of another. Give --data_dir the data of the training, or choose --split test"
        )
    print(f"warning: other data than in training: {difference}", file=sys.stderr)
