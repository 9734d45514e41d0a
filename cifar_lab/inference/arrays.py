"""NumPy files of images and labels to evaluate a model on, such as CIFAR-10-C and CIFAR-10.1.

A pair is two files such as ``cifar10.1_v6_data.npy`` and ``cifar10.1_v6_labels.npy``, or two arrays
with such names in an ``.npz`` file. ``labels.npy`` holds the labels of all files beside it that
have none of their own. Images are uint8 (N, 32, 32, 3) or (N, 3, 32, 32), labels integers (N,).

In CIFAR-10-C, ``labels.npy`` repeats the labels of the test set five times. Each other file holds
the images with one corruption, at the severities 1 to 5 in this order.
Source: README of CIFAR-10-C (https://zenodo.org/records/2535967).
"""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifar_lab.data import sources
from cifar_lab.data.image_set import IMAGE_SHAPE, ImageSet
from cifar_lab.data.pictures import counts
from cifar_lab.data.progress import print_line
from cifar_lab.errors import UserError
from cifar_lab.files import check_file, shown
from cifar_lab.inference.known_data import KnownSplit, where
from cifar_lab.models.classifier import ImageClassifier

SEVERITIES = 5
SHAPES = (IMAGE_SHAPE, IMAGE_SHAPE[1:] + IMAGE_SHAPE[:1])
# Words in the names of arrays: of images, each with that of its labels, and of training data.
LABELS_OF = {"data": "labels", "images": "labels", "image": "label", "x": "y"}
IMAGES = re.compile(rf"(?<![a-z])({'|'.join(LABELS_OF)})(?![a-z])", re.IGNORECASE)
LABELS = re.compile(r"(?<![a-z])(labels?|y)(?![a-z])", re.IGNORECASE)
TRAINING = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)


class ArraySet(NamedTuple):
    """A set of images and labels to evaluate."""

    path: Path  # of the file of the images
    name: str
    severity: int  # of a corruption, from 1 to 5, or 0
    images: np.ndarray  # uint8, of a shape in ``SHAPES``; those of .npy files are memory-mapped
    labels: np.ndarray  # int64 (N,)

    def known(self, model: ImageClassifier) -> KnownSplit:
        """Return the set as a split of data; its images are read into memory now."""
        images = np.array(self.images)
        if images.shape[1:] != IMAGE_SHAPE:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        names = model.class_names or tuple(map(str, range(model.num_classes)))
        test, none = (images, self.labels), (images[:0], self.labels[:0])
        image_set = ImageSet(*none, *test, names, "arrays", str(self.path))
        return KnownSplit(image_set, *test, np.arange(len(images)))


def load_arrays(
    model: ImageClassifier, split: str, data_dir: str | None, source: sources.Source
) -> list[ArraySet]:
    """Return the sets in a folder of NumPy files, or in one file; an empty list for other data.

    Raises:
        UserError: A file cannot be read, has no labels, or does not hold images or labels of the
            model's classes; or ``split`` is not "test".
    """
    place, _ = where(model, data_dir, source)
    files = _numpy_files(place) if place else []
    if not place or not files or sources.find(place, classes=model.class_names):
        return []
    if split != "test":
        raise UserError(f"--split {split}: {place} holds arrays, which have no splits")
    images = [file.name for file in files if not LABELS.search(file.stem)]
    if not images:
        raise UserError(f"{place}: labels without images")
    folder = place if place.is_dir() else place.parent
    chosen = [folder / name for name in _without_training(images, folder)]
    return [one for file in chosen for one in _sets(file, model.num_classes)]


def _numpy_files(place: Path) -> list[Path]:
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return [file for file in files if file.suffix in (".npy", ".npz") and counts(file.name)]


def _without_training(names: list[str], place: Path) -> list[str]:
    """Return the names of images that are not for training, unless all are; report the others."""
    trained_on = [name for name in names if TRAINING.search(name)]
    if not 0 < len(trained_on) < len(names):
        return names
    print_line(f"{place}: left out, as they are for training: {shown(', '.join(trained_on))}")
    return [name for name in names if name not in trained_on]


def _labels_of(name: str) -> str:
    """Return the name of the labels of images, in lower case."""
    return IMAGES.sub(lambda word: LABELS_OF[word[0].lower()], name).lower()


def _are_severities(labels: np.ndarray) -> bool:
    """Return whether the labels repeat exactly five times, without a shorter period."""
    count = len(labels) // SEVERITIES
    divisors = (size for size in range(1, count + 1) if count % size == 0)
    repeated = (size for size in divisors if np.array_equal(labels[size:], labels[:-size]))
    return len(labels) == SEVERITIES * count and next(repeated, None) == count


def _sets(file: Path, num_classes: int) -> list[ArraySet]:
    """Return the sets in a file; each severity of a corruption is a set."""
    if file.suffix == ".npz":
        arrays = _read(file)
        by_name = {name.lower(): array for name, array in arrays.items()}
        pairs_of = [name for name in arrays if IMAGES.search(name) and _labels_of(name) in by_name]
        names = _without_training(pairs_of, file)
        if not names:
            raise UserError(f"{file}: expected images and labels; found {shown(list(arrays))}")
        pairs = [_checked(file, arrays[n], by_name[_labels_of(n)], num_classes) for n in names]
        titles = [file.name] if len(names) == 1 else [f"{file.name} {name}" for name in names]
        return [ArraySet(file, title, 0, *pair) for title, pair in zip(titles, pairs, strict=True)]
    has_own = bool(IMAGES.search(file.stem))
    name = _labels_of(file.name) if has_own else "labels.npy"
    beside = {path.name.lower(): path for path in file.parent.iterdir()}
    if has_own and name not in beside:
        has_own, name = False, "labels.npy" if "labels.npy" in beside else name
    if name not in beside:
        raise UserError(f"{file}: no labels beside it; expected {name}")
    images, labels = _checked(file, _read(file), _read(beside[name]), num_classes)
    if has_own or not _are_severities(labels):
        return [ArraySet(file, file.stem, 0, images, labels)]
    parts = zip(np.split(images, SEVERITIES), np.split(labels, SEVERITIES), strict=True)
    return [ArraySet(file, file.stem, severity, *part) for severity, part in enumerate(parts, 1)]


def _read(file: Path) -> Any:
    """Return the array in a ``.npy`` file, memory-mapped, or those in an ``.npz`` file by name."""
    try:
        check_file(file, sys.maxsize)  # opening a pipe would not end
        found = np.load(file, mmap_mode="r", allow_pickle=False)
        if file.suffix == ".npy":
            return np.asanyarray(found)
        with found:
            wanted = [name for name in found if IMAGES.search(name) or LABELS.search(name)]
            return {name: found[name] if name in wanted else None for name in found}
    except UserError:
        raise
    except Exception as error:  # zipfile and NumPy raise errors of any type for a damaged file
        raise UserError(f"{file}: cannot be read ({shown(error)})") from error


def _checked(
    file: Path, images: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images as they are, and the labels as int64 (N,)."""
    if images.dtype != np.uint8 or images.shape[1:] not in SHAPES or not len(images):
        found = f"images {images.dtype} {images.shape}"
        raise UserError(f"{file}: {found}; expected uint8 (N, 32, 32, 3)")
    count = len(images)
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
        found = f"labels {labels.dtype} {labels.shape}"
        raise UserError(f"{file}: {found}; expected an integer for each of the {count:,} images")
    labels = labels.reshape(-1).astype(np.int64)
    for label in (labels.min(), labels.max()):
        if not 0 <= label < num_classes:
            raise UserError(f"{file}: label {label}; expected 0 to {num_classes - 1}")
    return images, labels
