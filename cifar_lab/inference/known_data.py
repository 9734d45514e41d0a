"""The images of a split, as the model of a checkpoint knew it.

A checkpoint carries the fingerprint of the data it was trained on and how they were split. So the
validation split is the one that the model was selected on, and no image of its training split is
taken for an unseen one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.config_file import read_config
from cifar_lab.data import sources
from cifar_lab.data.image_set import ImageSet
from cifar_lab.data.progress import print_line
from cifar_lab.data.split import split_indices
from cifar_lab.errors import UserError
from cifar_lab.models.classifier import ImageClassifier


@dataclass(frozen=True)
class KnownSplit:
    """The images to evaluate.

    Attributes:
        image_set: all images of the data.
        images: uint8 (N, 3, 32, 32), its training or its test images.
        labels: int64 (N,), of these.
        indices: int64 (M,), of the images in the split, ascending.
    """

    image_set: ImageSet
    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


def load_split(
    model: ImageClassifier, split: str, data_dir: str | None, source: sources.Source
) -> KnownSplit:
    """Finds the data and takes a split out of them.

    Args:
        model: with the description of its data, from ``load_classifier``.
        split: "test", "val" or "train".
        data_dir: the data folder; default ``$CIFAR_LAB_DATA``, else ``./data``.
        source: "auto" is "synthetic" for a model that was trained on synthetic images, and else
            "cifar10": other data than its own would say nothing about the model.

    Raises:
        UserError: no data; other classes than the model's; the model has no such split, or, for
            "val" and "train", it was trained on other images: which of these are in its training
            split nobody knows. Other test images are evaluated, with a warning on stderr.
    """
    _require_split(model.data, split)
    image_set = _read(model.data, data_dir, source)
    _check_classes(model, image_set)
    _check_fingerprint(model.data, image_set, split)
    if split == "test":
        images, labels = image_set.test_images, image_set.test_labels
        return KnownSplit(image_set, images, labels, np.arange(len(labels)))
    images, labels = image_set.train_images, image_set.train_labels
    train, val = split_indices(labels, model.data["val_size"], model.data["split_seed"])
    return KnownSplit(image_set, images, labels, val if split == "val" else train)


def data_dir_of_run(checkpoint: Path) -> str | None:
    """The data folder that the run of a checkpoint had, from its ``config.yaml``.

    None where that file is not there, where no images are in that folder (any more), and where
    ``$CIFAR_LAB_DATA`` names another.
    """
    folder_of_checkpoint = checkpoint.absolute().parent
    if os.environ.get("CIFAR_LAB_DATA") or folder_of_checkpoint.name != "checkpoints":
        return None
    try:
        folder = read_config(str(folder_of_checkpoint.parent / "config.yaml")).get("data_dir")
        there = isinstance(folder, str) and sources.find(sources.resolve_folder(folder)) is not None
    except UserError:  # no such file or folder, or an altered one
        return None
    return folder if there else None


def _require_split(known: dict[str, Any], split: str) -> None:
    if split == "test":
        return
    missing = {"fingerprint", "val_size", "split_seed"} - known.keys()
    if missing:
        raise UserError(
            f"--split {split}: the checkpoint does not say how its data were split; "
            "--split test needs no such record"
        )
    if split == "val" and known["val_size"] == 0:
        raise UserError(
            "--split val: the model was trained with --val_size 0, on all training images; "
            "it has no validation split. Choose --split test or train"
        )


def _read(known: dict[str, Any], data_dir: str | None, source: sources.Source) -> ImageSet:
    automatic, kind = source == "auto", known.get("source")
    if automatic:
        source = "synthetic" if kind == "synthetic" else "cifar10"
    synthetic = source == "synthetic"
    folder = sources.DEFAULT_FOLDER if synthetic else sources.resolve_folder(data_dir)
    if automatic and kind == "folder" and sources.find(folder) is None:  # no mirror has them
        raise UserError(
            f"{folder}: no images here. The model was trained on image folders: name theirs with "
            "--data_dir"
        )
    sources.prepare(folder, source, print_line)
    return sources.load(folder, source, report=print_line)


def _check_classes(model: ImageClassifier, image_set: ImageSet) -> None:
    found, expected = image_set.class_names, model.class_names
    if len(found) != model.num_classes:
        raise UserError(
            f"the model has {model.num_classes} classes{_listed(expected)}, the data have "
            f"{len(found)}{_listed(found)}: {image_set.description}"
        )
    for number, (ours, theirs) in enumerate(zip_longest(expected or found, found)):
        if ours != theirs:
            raise UserError(
                f"class {number} is {ours!r} for the model and {theirs!r} in the data: "
                f"{image_set.description}"
            )


def _listed(names: tuple[str, ...], most: int = 10) -> str:
    """The names in brackets, at most ``most`` of them; nothing where there are none."""
    shown = [*names[:most], *(["…"] if len(names) > most else [])]
    return f" ({', '.join(shown)})" if shown else ""


def _check_fingerprint(known: dict[str, Any], image_set: ImageSet, split: str) -> None:
    """Warns of other images than those the model was trained on, or refuses them."""
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
