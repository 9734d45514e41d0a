"""CIFAR10DataModule: the images in memory, their splits, and loaders on the training device.

Batches are uint8 images (B, 3, 32, 32) and int64 labels (B,). The model normalizes the images (see
layers/normalize.py) with statistics from here.
"""

import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from cifar_lab.data import sources, synthetic
from cifar_lab.data.augment import CROP_PADDING, Augmentation, compose
from cifar_lab.data.image_set import ImageSet
from cifar_lab.data.loader import BatchLoader, InOrder, Shares, Split
from cifar_lab.data.progress import print_line
from cifar_lab.data.split import mixed
from cifar_lab.data.statistics import normalization
from cifar_lab.errors import UserError
from cifar_lab.internals import batches_done

_report = rank_zero_only(print_line)


class CIFAR10DataModule(LightningDataModule):
    """CIFAR-10 as a ``LightningDataModule``.

    Nothing is read or downloaded before ``prepare_data`` and ``setup``.

    Args:
        data_dir: folder of the data, or the archive or extracted folder itself. The default is
            ``$CIFAR_LAB_DATA``, else ``./data``.
        source: "auto", "cifar10" (never synthetic images) or "synthetic"; see sources.py.
        batch_size: number of training images in a batch of each process.
        eval_batch_size: number of images in an evaluation batch. Results differ by rounding only.
        val_size: number of training images held out for validation; None takes the data's own
            validation split (``val/``), or else a tenth. With 0, all images except the test set are
            used for training, and validation runs on the test set (the report's protocol).
        seed: seed of the order of the training batches and of augmentation.
        split_seed: seed of the validation split. It is independent of ``seed``, so that runs with
            different seeds are selected on the same images.
        augment: names from ``augment.AUGMENTATIONS``, applied in order: ``["flip", "crop"]``.
        crop_padding: largest shift of "crop" in pixels.
        normalize: whether the loaders return images standardized to float32, for models that do
            not normalize.
        verify_data: whether to decode an image tree again, without its cache.
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
            split = self._set.split(self.val_size, self.split_seed)
            self.train_indices, self.val_indices = split
            self.test_indices = np.arange(len(self._set.test_labels))
        self._check_same_everywhere()
        share = len(self.train_indices) // self._world_size
        if self.batch_size > share:
            raise UserError(
                f"batch_size {self.batch_size:,}: larger than the {share:,} training images"
                + (" of each process" if self._world_size > 1 else "")
            )

    def _folder(self) -> Path | None:
        return None if self.source == "synthetic" else sources.resolve_folder(self.data_dir)

    def _check_same_everywhere(self) -> None:
        """Raise if one process downloaded the images and another one could not."""
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
    def _in_use(self) -> Trainer | None:
        """The Trainer, unless it has finished, so that its settings no longer apply."""
        return self.trainer if self.trainer and not self.trainer.state.stopped else None

    @property
    def _world_size(self) -> int:
        return self._in_use.world_size if self._in_use else 1

    @property
    def image_set(self) -> ImageSet:
        """The images of all splits, known after ``setup``; before it, a RuntimeError is raised."""
        if self._set is None:
            raise RuntimeError(
                "CIFAR10DataModule holds no data before setup(): call prepare_data() and setup() "
                "first, or give it to a Trainer"
            )
        return self._set

    @property
    def num_classes(self) -> int:
        """Number of classes; before ``setup``, this reads the data if they are there already."""
        if self._set is None:
            if self.source == "synthetic" or sources.find(self._folder()) is None:
                return len(synthetic.CLASS_NAMES)  # as many as a download of CIFAR-10 has
            self.setup()
        return len(self.image_set.class_names)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        test = len(self.image_set.test_labels)
        return {"train": len(self.train_indices), "val": len(self.val_indices), "test": test}

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
        """Return shuffled batches of equal size, or in a fixed order for ``overfit_batches``."""
        overfit = self._in_use is not None and self._in_use.overfit_batches > 0
        loader = self._loader(
            "train",
            InOrder if overfit else Shares,
            mix=overfit,
            augment=self.augment,
            batch_size=self.batch_size,
            drop_last=True,
        )
        if self._in_use:
            loader.resume_at = partial(batches_done, self._in_use)
        return loader

    def val_dataloader(self) -> BatchLoader:
        """Return the validation split, or with ``val_size=0`` the test set; every image once."""
        split = "test" if self.evaluates_on_test else "val"
        return self._loader(split, mix=self._takes_part("limit_val_batches"))

    def test_dataloader(self) -> BatchLoader:
        """Return the test set, every image once."""
        return self._loader("test", mix=self._takes_part("limit_test_batches"))

    def predict_dataloader(self) -> BatchLoader:
        """Return the test set in the order of its files."""
        return self._loader("test")

    def _takes_part(self, limit: str) -> bool:
        """Return whether the Trainer evaluates only a part, which should have all classes."""
        taken = getattr(self._in_use, limit, 1.0)
        return not (isinstance(taken, float) and taken == 1.0)  # the integer 1 means one batch

    def _loader(
        self,
        name: str,
        kind: type[Shares] = InOrder,
        *,
        mix: bool = False,
        augment: Augmentation | None = None,
        **options: Any,
    ) -> BatchLoader:
        """Return the batches of a split, in the order of the files or, with ``mix``, mixed."""
        part = "test" if name == "test" else "train"
        images, labels = self._on_device(f"{part}_images"), self._on_device(f"{part}_labels")
        indices = getattr(self, f"{name}_indices")
        indices = torch.from_numpy(mixed(indices) if mix else indices)
        statistics = self._standardization(images.device) if self.normalize else None
        split = Split(images, labels, indices, augment, self.seed, statistics)
        share: dict[str, Any] = {}  # empty: that of the process group, if there is one
        if self._in_use:
            share = self._in_use.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
        sampler = kind(split, **share, seed=self.seed)
        if len(split) < (processes := sampler.num_replicas):
            raise UserError(f"{len(split)} images cannot be shared by {processes} processes")
        # Lightning recommends worker processes, which are not needed; see loader.py.
        warnings.filterwarnings("ignore", ".*does not have many workers")
        return BatchLoader(
            split, sampler=sampler, **{"batch_size": self.eval_batch_size, **options}
        )

    def _standardization(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = self._standardize or self.statistics("standardize")
        self._standardize = mean.to(device), std.to(device)
        return self._standardize

    def _on_device(self, name: str) -> Tensor:
        """Return a field of the image set on the training device; it is copied there once."""
        device = self._in_use.strategy.root_device if self._in_use else torch.device("cpu")
        found = self._tensors.get(name)
        if found is None or found.device != device:
            found = self._tensors[name] = torch.from_numpy(getattr(self.image_set, name)).to(device)
        return found

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Return a batch unchanged if it is already on the device."""
        if isinstance(batch, tuple) and batch[0].device == device:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
