"""What every source gives: the images and labels of both splits, with where they came from."""

from __future__ import annotations

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
    """One line for people: what the data are and where they came from."""
    return f"{DESCRIPTIONS[source]} ({location})" if location else DESCRIPTIONS[source]


@dataclass(frozen=True)
class ImageSet:
    """A labelled set of 32×32 colour images.

    Attributes:
        train_images: uint8 (N, 3, 32, 32).
        train_labels: int64 (N,), classes from 0.
        test_images: uint8 (M, 3, 32, 32).
        test_labels: int64 (M,).
        class_names: one name a class.
        source: "cifar10" (original files, checksums verified), "folder" (an image tree) or
            "synthetic".
        location: where it was read, for people; empty for the synthetic set.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: SourceName
    location: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 digits of a SHA-256 over all pixels and labels, in order."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    @property
    def description(self) -> str:
        """One line for people: what the data are and where they came from."""
        return describe(self.source, self.location)
