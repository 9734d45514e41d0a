"""The images and labels of both splits, and where they came from; every source returns these."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from cifar_lab.data.split import split_indices
from cifar_lab.errors import UserError

SourceName = Literal["cifar10", "folder", "synthetic", "arrays"]
IMAGE_SHAPE = (3, 32, 32)
DESCRIPTIONS = {
    "cifar10": "CIFAR-10, original files",
    "folder": "image folders",
    "synthetic": "SYNTHETIC images, not CIFAR-10",
    "arrays": "arrays of images and labels",
}
SYNTHETIC_NOTE = "These numbers are for SYNTHETIC images; they say nothing about CIFAR-10."


def describe(source: str, location: str = "") -> str:
    """Return a readable line that says what the data are and where they came from."""
    return f"{DESCRIPTIONS[source]} ({location})" if location else DESCRIPTIONS[source]


@dataclass(frozen=True)
class ImageSet:
    """A labelled set of 32×32 colour images: N for training, M for testing."""

    train_images: np.ndarray  # uint8 (N, 3, 32, 32), RGB
    train_labels: np.ndarray  # int64 (N,), numbers of the classes from 0
    test_images: np.ndarray  # uint8 (M, 3, 32, 32), RGB
    test_labels: np.ndarray  # int64 (M,)
    class_names: tuple[str, ...]  # by number
    source: SourceName
    location: str = ""  # path that the images were read from
    val_count: int = 0  # size of the data's own validation split, the last of the training images

    def split(self, val_size: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the training and the validation split, int64, each ascending.

        They are the data's own splits, or those of :func:`split_indices`, with its arguments. With
        ``val_size=0`` all images are used for training in any case.

        Raises:
            UserError: ``val_size`` differs from the size of the data's own validation split.
        """
        if not self.val_count or val_size == 0:
            return split_indices(self.train_labels, val_size, seed)
        if val_size not in (None, self.val_count):
            raise UserError(
                f"val_size {val_size:,}: the data have a validation split of {self.val_count:,} "
                "images; leave val_size out to use it, or give 0 to train on its images too"
            )
        indices = np.arange(len(self.train_labels))
        return indices[: -self.val_count], indices[-self.val_count :]

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 of all pixels and labels, in order."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(np.ascontiguousarray(array).data)
        if self.val_count:
            digest.update(str(self.val_count).encode())
        return digest.hexdigest()[:16]

    @property
    def is_cifar10(self) -> bool:
        """Whether the numbers of images and classes are those of CIFAR-10."""
        counts = len(self.train_labels), len(self.test_labels), len(self.class_names)
        return counts == (50_000, 10_000, 10)

    @property
    def description(self) -> str:
        """A readable line that says what the data are and where they came from."""
        return describe(self.source, self.location)
