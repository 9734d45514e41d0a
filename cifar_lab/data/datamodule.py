"""CIFAR10DataModule: the images in memory, their splits, and loaders on the training device.

Batches are uint8 images (B, 3, 32, 32) and int64 labels (B,). The model normalises the images (see
layers/normalize.py) with statistics from here.
"""

import os
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
from cifar_lab.data.progress import print_line
from cifar_lab.data.split import mixed, split_indices
from cifar_lab.data.statistics import normalization
from cifar_lab.errors import UserError

_report = rank_zero_only(print_line)


class CIFAR10DataModule(LightningDataModule):
    """CIFAR-10 as a ``LightningDataModule``.

    Nothing is read or downloaded before ``prepare_data`` and ``setup``.

    Args:
        data_dir: folder of the data, or the archive or extracted folder itself. The default is
            ``$CIFAR_LAB_DATA``, else ``./data``.
        source: "auto", "cifar10" (never falls back) or "synthetic"; see sources.py.
        batch_size: number of training images in a batch of each process.
        eval_batch_size: number of images in an evaluation batch. Results differ by rounding only.
        val_size: number of training images held out for validation; None holds out a tenth. With 0,
            all images are trained on, and validation runs on the test set (the report's protocol).
        seed: seed of the order of the training batches and of augmentation.
        split_seed: seed of the validation split. It is independent of ``seed``, so that runs with
            different seeds are selected on the same images.
        augment: names from ``augment.AUGMENTATIONS`` in order, such as ``["flip", "crop"]``.
        crop_padding: largest shift of "crop" in pixels.
        normalize: whether images are standardised to float32, for models that do not normalise.
        verify_data: whether to decode an image tree anew, without its cache.
        mirror: http(s) addresses of the archive, tried in order. The default is
            ``$CIFAR_LAB_MIRROR``, else the addresses in download.py.

    Raises:
        UserError: A value is out of its range. ``prepare_data`` and ``setup`` raise it if the data
            are missing or damaged, or if a batch is larger than the split.
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
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise UserError(f"{name} {size}: expected a positive integer")
        for name, value in (("augment", augment), ("mirror", mirror)):
            if isinstance(value, str):  # a sequence of letters
                raise UserError(f"{name} {value!r}: expected a list, such as [{value!r}]")
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

    def prepare_data(self) -> None:
        """Download the data if they are needed and missing. Lightning calls this in one process."""
        if self._set is None:
            sources.prepare(self._folder(), self.source, _report, self.mirror)

    def setup(self, stage: str | None = None) -> None:
        """Read and split the data, once for all stages."""
        if self._set is None:
            folder, verify = self._folder(), self.verify_data
            self._set = sources.load(folder, self.source, verify=verify, report=_report)
            split = split_indices(self._set.train_labels, self.val_size, self.split_seed)
            self.train_indices, self.val_indices = split
            self.test_indices = np.arange(len(self._set.test_labels))
        self._check_same_everywhere()
        share = len(self.train_indices) // self._world_size
        if self.batch_size > share:
            raise UserError(
                f"batch_size {self.batch_size:,}: larger than the {share:,} training images"
                + (" of each process" if self._world_size > 1 else "")
            )

    def _folder(self) -> Any:
        if self.source == "synthetic":
            return sources.DEFAULT_FOLDER
        return sources.resolve_folder(self.data_dir)

    def _check_same_everywhere(self) -> None:
        """Refuse to train if one process downloaded the images and another one could not."""
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
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def image_set(self) -> ImageSet:
        """The images of all splits, known after ``setup``; before it, a RuntimeError is raised."""
        if self._set is None:
            raise RuntimeError("CIFAR10DataModule holds no data before setup()")
        return self._set

    @property
    def num_classes(self) -> int:
        """Number of classes of the data, known after ``setup``."""
        return len(self.image_set.class_names)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        train, val = len(self.train_indices), len(self.val_indices)
        return {"train": train, "val": val, "test": len(self.image_set.test_labels)}

    @property
    def identity(self) -> dict[str, Any]:
        """Source, fingerprint and split of the training data, in plain values."""
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
        """Return ``statistics.normalization`` of the training split as two float32 tensors."""
        mean, std = normalization(self.image_set, self.train_indices, kind)
        return torch.from_numpy(mean), torch.from_numpy(std)

    def train_dataloader(self) -> BatchLoader:
        """Return shuffled batches of equal size; in a fixed order for ``overfit_batches``."""
        overfit = self.trainer is not None and self.trainer.overfit_batches > 0
        return self._loader(
            "train",
            mixed(self.train_indices) if overfit else self.train_indices,
            batch_size=self.batch_size,
            shuffle=not overfit,
            drop_last=True,
            augment=self.augment,
        )

    def val_dataloader(self) -> BatchLoader:
        """Return the validation split, or with ``val_size=0`` the test set; every image once."""
        if self.evaluates_on_test:
            return self._evaluation("test", self.test_indices, "limit_val_batches")
        return self._evaluation("train", self.val_indices, "limit_val_batches")

    def test_dataloader(self) -> BatchLoader:
        """Return the test set, every image once."""
        return self._evaluation("test", self.test_indices, "limit_test_batches")

    def predict_dataloader(self) -> BatchLoader:
        """Return the test set in the order of its files."""
        return self._loader("test", self.test_indices, batch_size=self.eval_batch_size)

    def _evaluation(self, split: str, indices: np.ndarray, limit: str) -> BatchLoader:
        """Return batches in the order of the files, or mixed if the Trainer takes a part only."""
        taken = getattr(self.trainer, limit) if self.trainer is not None else 1.0
        whole = isinstance(taken, float) and taken == 1.0  # the integer 1 means one batch
        indices = indices if whole else mixed(indices)
        return self._loader(split, indices, batch_size=self.eval_batch_size)

    def _loader(self, split: str, indices: np.ndarray, **options: Any) -> BatchLoader:
        processes = self._world_size
        if len(indices) < processes:
            raise UserError(f"{len(indices)} images cannot be shared by {processes} processes")
        return BatchLoader(
            self._on_device(f"{split}_images"),
            self._on_device(f"{split}_labels"),
            torch.from_numpy(indices),
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=processes,
            **options,
        )

    def _on_device(self, name: str) -> Tensor:
        """Return a field of the image set on the training device; it is copied there once."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        found = self._tensors.get(name)
        if found is None or found.device != device:
            found = self._tensors[name] = torch.from_numpy(getattr(self.image_set, name)).to(device)
        return found

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Return a batch unchanged if the loader made it on the device."""
        if isinstance(batch, tuple) and batch[0].device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Standardise the images if ``normalize=True``."""
        if not self.normalize or isinstance(batch, Tensor):  # Lightning's example_input_array
            return batch
        images, labels = batch
        mean, std = self._standardize or self.statistics("standardize")
        self._standardize = mean, std = mean.to(images.device), std.to(images.device)
        return (images.float() - mean) / std, labels
