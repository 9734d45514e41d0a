"""CIFAR10DataModule: one set of images in memory, the splits, and loaders on the training device.

Batches are uint8 images (B, 3, 32, 32) and int64 labels (B,). Normalisation belongs to the model
(layers/normalize.py), which takes its statistics from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from cifar_lab.data import sources
from cifar_lab.data.augment import CROP_PADDING, compose
from cifar_lab.data.image_set import ImageSet
from cifar_lab.data.loader import Batch, BatchLoader
from cifar_lab.data.split import split_indices
from cifar_lab.data.statistics import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    channel_statistics,
    mean_image,
)
from cifar_lab.errors import UserError


class CIFAR10DataModule(LightningDataModule):
    """CIFAR-10 as a LightningDataModule.

    Nothing is read or downloaded before ``prepare_data`` and ``setup``.

    Args:
        data_dir: where the data are or go to; default ``$CIFAR_LAB_DATA``, else ``./data``. May
            also name the archive or the extracted folder itself.
        source: "auto", "cifar10" (never falls back) or "synthetic"; see sources.py.
        batch_size: training images a batch, for each process.
        eval_batch_size: images a batch when evaluating; changes no result but rounding.
        val_size: training images held out for validation; None holds out a tenth. 0 is the
            report's protocol: train on all, and validate on the test set.
        seed: of the order of the training batches and of augmentation.
        split_seed: of the validation split. Apart from ``seed``, so that runs with different seeds
            are selected on the same images.
        augment: names from ``augment.AUGMENTATIONS`` in order, such as ``["flip", "crop"]``.
        crop_padding: pixels that "crop" shifts an image by at most, each way.
        normalize: give standardised float32 images, for models that do not normalise themselves.
        verify_data: check an image tree's contents against its cache.
        mirror: http(s) addresses of the archive to download from, in order; default
            ``$CIFAR_LAB_MIRROR``, else those in download.py.

    Raises:
        UserError: a value out of its range (also from ``prepare_data`` and ``setup``: data that are
            missing or damaged, a batch larger than the split).
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        source: sources.Source = "auto",
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: int | None = None,
        seed: int = 0,
        split_seed: int = 0,
        augment: Sequence[str] = (),
        crop_padding: int = CROP_PADDING,
        normalize: bool = False,
        verify_data: bool = False,
        mirror: Sequence[str] = (),
    ) -> None:
        super().__init__()
        _require_positive(batch_size=batch_size, eval_batch_size=eval_batch_size)
        _require_lists(augment=augment, mirror=mirror)
        sources.check_source(source)
        if seed < 0:
            raise UserError(f"seed {seed}: expected an integer of at least 0")
        self.data_dir, self.source, self.verify_data = data_dir, source, verify_data
        self.mirror = mirror
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_size, self.seed, self.split_seed = val_size, seed, split_seed
        self.augment, self.normalize = compose(augment, crop_padding), normalize
        self._set: ImageSet | None = None
        self._tensors: dict[str, Tensor] = {}
        self._standardize: tuple[Tensor, Tensor] | None = None

    # --- data ---------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Downloads the data where they are wanted and missing; runs on one process."""
        if self._set is None:
            sources.prepare(self._folder(), self.source, _report, self.mirror)

    def setup(self, stage: str | None = None) -> None:
        """Reads the data and splits them, once for all stages."""
        if self._set is None:
            self._set = sources.load(
                self._folder(), self.source, verify=self.verify_data, report=_report
            )
            split = split_indices(self._set.train_labels, self.val_size, self.split_seed)
            self.train_indices, self.val_indices = split
        self._check_same_everywhere()
        share = len(self.train_indices) // self._world_size
        if self.batch_size > share:
            raise UserError(
                f"batch_size {self.batch_size:,}: larger than the {share:,} training images"
                + (" of each process" if self._world_size > 1 else "")
            )

    def _check_same_everywhere(self) -> None:
        """Refuses to train where one process downloaded the images and another could not."""
        if self._world_size == 1 or self.trainer is None:
            return
        strategy, own = self.trainer.strategy, self.image_set.fingerprint
        same = strategy.broadcast(own) == own
        if not strategy.reduce_boolean_decision(same, all=True):
            raise UserError(
                "the processes found different images; give all of them the same folder "
                "(--data_dir) and --source cifar10"
            )

    @property
    def image_set(self) -> ImageSet:
        """The images of all splits.

        Raises:
            RuntimeError: before ``setup``.
        """
        if self._set is None:
            raise RuntimeError("CIFAR10DataModule holds no data before setup()")
        return self._set

    @property
    def num_classes(self) -> int:
        """Number of classes of the data; known after ``setup``."""
        return len(self.image_set.class_names)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images of each split."""
        return {
            "train": len(self.train_indices),
            "val": len(self.val_indices),
            "test": len(self.image_set.test_labels),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What was trained on, in plain values: source, fingerprint, and how it was split."""
        return {
            "source": self.image_set.source,
            "fingerprint": self.image_set.fingerprint,
            "val_size": len(self.val_indices),
            "split_seed": self.split_seed,
        }

    @property
    def evaluates_on_test(self) -> bool:
        """Whether validation runs on the test set: the report's protocol, ``val_size=0``."""
        return self.val_size == 0

    def statistics(self, kind: str) -> tuple[Tensor, Tensor]:
        """What a model subtracts and divides by, on the pixels' scale 0–255.

        Args:
            kind: "mean_image" (the mean of the training split, no division) or "standardize"
                (channel mean and standard deviation: the published ones for the original
                CIFAR-10, else computed from the training split).

        Returns:
            Mean and standard deviation, float32, (3, 32, 32) or (3, 1, 1).
        """
        images = self.image_set.train_images
        if kind == "mean_image":
            mean = mean_image(images, self.train_indices)
            std = np.ones_like(mean)
        elif self.image_set.source == "cifar10":
            mean, std = (
                np.float32(255) * np.array(values, dtype=np.float32).reshape(3, 1, 1)
                for values in (CIFAR10_MEAN, CIFAR10_STD)
            )
        else:
            mean, std = channel_statistics(images, self.train_indices)
        return torch.from_numpy(mean), torch.from_numpy(std)

    # --- loaders ------------------------------------------------------------------------------

    def train_dataloader(self) -> BatchLoader:
        """Shuffled batches; the last, smaller one is dropped. Fixed order for overfit_batches."""
        overfit = self.trainer is not None and self.trainer.overfit_batches > 0
        return self._loader(
            "train",
            _mixed(self.train_indices) if overfit else self.train_indices,
            batch_size=self.batch_size,
            shuffle=not overfit,
            drop_last=True,
            augment=self.augment,
        )

    def val_dataloader(self) -> BatchLoader:
        """The validation split, or with ``val_size=0`` the test set; every image once."""
        if self.evaluates_on_test:
            return self._evaluation("test", self._test_indices, "limit_val_batches")
        return self._evaluation("train", self.val_indices, "limit_val_batches")

    def test_dataloader(self) -> BatchLoader:
        """The test set, every image once."""
        return self._evaluation("test", self._test_indices, "limit_test_batches")

    def predict_dataloader(self) -> BatchLoader:
        """The test set, in the order of its files."""
        return self._loader("test", self._test_indices, batch_size=self.eval_batch_size)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Leaves batches where the loader made them: on the device already."""
        if isinstance(batch, tuple) and batch[0].device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Standardises the images with ``normalize=True``.

        Lightning also sends a model's ``example_input_array`` through here, which is as its model
        wants it.
        """
        if not self.normalize or isinstance(batch, Tensor):
            return batch
        images, labels = batch
        if self._standardize is None or self._standardize[0].device != images.device:
            mean, std = self.statistics("standardize")
            self._standardize = mean.to(images.device), std.to(images.device)
        mean, std = self._standardize
        return (images.float() - mean) / std, labels

    @property
    def _test_indices(self) -> np.ndarray:
        return np.arange(len(self.image_set.test_labels))

    def _evaluation(self, split: str, indices: np.ndarray, limit: str) -> BatchLoader:
        """Batches in the order of the files, or mixed where the Trainer takes only some of them."""
        taken = getattr(self.trainer, limit) if self.trainer is not None else 1.0
        whole = isinstance(taken, float) and taken == 1.0  # the integer is one batch
        indices = indices if whole else _mixed(indices)
        return self._loader(split, indices, batch_size=self.eval_batch_size)

    def _loader(self, split: str, indices: np.ndarray, **options: Any) -> BatchLoader:
        if len(indices) < self._world_size:
            raise UserError(
                f"{len(indices)} images cannot be shared by {self._world_size} processes"
            )
        return BatchLoader(
            self._on_device(f"{split}_images"),
            self._on_device(f"{split}_labels"),
            torch.from_numpy(indices),
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self._world_size,
            **options,
        )

    def _on_device(self, name: str) -> Tensor:
        """A field of the image set on the training device; copied there once."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        found = self._tensors.get(name)
        if found is None or found.device != device:
            found = self._tensors[name] = torch.from_numpy(getattr(self.image_set, name)).to(device)
        return found

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _folder(self) -> Any:
        if self.source == "synthetic":
            return sources.DEFAULT_FOLDER
        return sources.resolve_folder(self.data_dir)


def _mixed(indices: np.ndarray) -> np.ndarray:
    """A fixed order in which the first ones are of all classes; a folder lists class by class."""
    return np.random.RandomState(0).permutation(indices)


@rank_zero_only
def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UserError(f"{name} {value}: expected a positive integer")


def _require_lists(**values: Sequence[str]) -> None:
    for name, value in values.items():
        if isinstance(value, str):  # would be taken letter by letter
            raise UserError(f"{name} {value!r}: expected a list, such as [{value!r}]")
