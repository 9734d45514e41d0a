"""The images and labels of both splits, and where they came from; every source returns these."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

SourceName = Literal["cifar10", "folder", "synthetic"]
IMAGE_SHAPE = (3, 32, 32)
DESCRIPTIONS = {
    "cifar10": "CIFAR-10, original files",
    "folder": "image folders",
    "synthetic": "SYNTHETIC images, not CIFAR-10",
}
SYNTHETIC_NOTE = "These numbers are for SYNTHETIC images; they say nothing about CIFAR-10."


def describe(source: str, location: str = "") -> str:
    """Return a line for people: what the data are and where they came from."""
    return f"{DESCRIPTIONS[source]} ({location})" if location else DESCRIPTIONS[source]


@dataclass(frozen=True)
class ImageSet:
    """A labelled set of 32×32 colour images: N for training, M for the test."""

    train_images: np.ndarray  # uint8 (N, 3, 32, 32), RGB
    train_labels: np.ndarray  # int64 (N,), numbers of the classes from 0
    test_images: np.ndarray  # uint8 (M, 3, 32, 32), RGB
    test_labels: np.ndarray  # int64 (M,)
    class_names: tuple[str, ...]  # by number
    source: SourceName
    location: str = ""  # path that the images were read from, for people

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 of all pixels and labels, in order."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    @property
    def description(self) -> str:
        """A line for people: what the data are and where they came from."""
        return describe(self.source, self.location)
