"""Batches from memory: shuffled, sharded, augmented and resumable, without worker processes.

CIFAR-10 takes 184 MB as uint8. It stays in the memory of the device that trains, and a batch is
gathered in one operation, so worker processes have nothing to do. Images are uint8 (B, C, H, W),
labels int64 (B,).

A batch depends only on the seed, the epoch and its number. The order comes from a generator seeded
by (seed, epoch), the augmentation from one seeded by (seed, epoch, batch, rank). On a GPU, several
batches are made at once from the seed of the first one. No other random numbers affect a batch, and
a run that is resumed in the middle of an epoch gets the same batches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from cifar_lab.data.augment import Augmentation, Draw

Batch = tuple[Tensor, Tensor]
IMAGES_AT_ONCE = 10_000  # images that a GPU augments at once; the random numbers depend on it
AUGMENTATION = 1  # keeps these seeds apart from those of the order; a 0 would not change a seed


@dataclass
class Split(Dataset[Batch]):
    """The images of a split in memory, and the processing of a batch of them.

    Attributes:
        images: uint8 (N, C, H, W), on any device. The batches are made on this device.
        labels: int64 (N,), on the same device.
        indices: int64 (M,), positions of this split's images, in a fixed order.
        augment: augmentation of a batch of images.
        seed: seed of the augmentation.
        statistics: mean and deviation (C, 1, 1), to standardize the images; None leaves them raw.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    augment: Augmentation | None = None
    seed: int = 0
    statistics: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    def __getitem__(self, position: int) -> Batch:
        """Return an image (C, H, W), not augmented, and its label ()."""
        index = self.indices[position]
        return self.standardised(self.images[index]), self.labels[index]

    def standardised(self, images: Tensor) -> Tensor:
        """Return raw images as they are or, with ``statistics``, standardized to float32."""
        if self.statistics is None:
            return images
        mean, std = self.statistics
        return (images.float() - mean) / std


class Shares(DistributedSampler[int]):
    """The positions of a process's images in a split, shuffled again in each epoch.

    Unlike its base class, it repeats no image and needs no process group. All processes get equally
    many images, so at most ``num_replicas - 1`` images are left out.

    Args:
        dataset: the split.
        num_replicas: number of processes that share the split; None for the size of the process
            group of ``torch.distributed``, which may be created later.
        rank: number of this process, from 0; None for its rank in the process group.
        seed: seed of the order.
    """

    shuffle = True

    def __init__(
        self,
        dataset: Dataset[Any],
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0
        self._given = num_replicas, rank

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        """Number of processes that share the split."""
        given = self._given[0]
        return given or (distributed.get_world_size() if _has_group() else 1)

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Number of this process."""
        given = self._given[1]
        return given if given is not None else (distributed.get_rank() if _has_group() else 0)

    def __len__(self) -> int:
        """Return the number of images of this process."""
        return len(self.dataset) // self.num_replicas  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        """Yield the positions of this epoch."""
        return iter(self.order().tolist())

    def order(self) -> Tensor:
        """Return the positions of this epoch, int64 (len(self),)."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        return order[self.rank :: self.num_replicas][: len(self)]


class InOrder(Shares, SequentialSampler):
    """The same in the order of the split, without leaving out images."""

    shuffle = False

    def __len__(self) -> int:
        """Return the number of images of this process."""
        return len(self.order())

    def order(self) -> Tensor:
        """Return the positions of every epoch, int64 (len(self),)."""
        order = torch.arange(len(self.dataset))  # type: ignore[arg-type]
        return order[self.rank :: self.num_replicas]

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: with ``overfit_batches``, every epoch has the same augmented images."""


class BatchLoader(DataLoader[Batch]):
    """A ``DataLoader`` for a ``Split`` that makes each batch in one operation, in this process.

    Its arguments are those of ``DataLoader``. Use ``Shares`` or ``InOrder`` as the ``sampler``.

    Attributes:
        resume_at: function of the loader that returns how many batches the first iteration skips.
            It is called when the first batch is requested, and replaces the state that was loaded.
    """

    dataset: Split
    resume_at: Callable[[BatchLoader], int] | None = None
    _consumed = 0  # number of batches of this epoch that were returned
    _skipped = 0  # number of batches to skip in the next iteration

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches of the current epoch. After the last one, the next epoch is current."""
        resume_at, self.resume_at = self.resume_at, None
        start, self._skipped = resume_at(self) if resume_at else self._skipped, 0
        batches, at_once, made = self._batches(), self._batches_at_once, list[Batch]()
        for number in range(start, len(batches)):
            position = number % at_once
            if not position or not made:
                first = number - position
                made = self._make(batches[first : first + at_once], first)
            images, labels = made[position]
            self._consumed = number + 1
            yield self.dataset.standardised(images), labels
        self._consumed = 0
        if isinstance(self.sampler, Shares):
            self.sampler.epoch += 1

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches were returned."""
        return {"epoch": self._epoch, "batches": self._consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at this position; after a finished epoch, ``set_epoch`` must set the next."""
        if isinstance(self.sampler, Shares):
            self.sampler.epoch = state["epoch"]
        self._skipped = self._consumed = state["batches"] % max(len(self), 1)

    @property
    def _epoch(self) -> int:
        return getattr(self.sampler, "epoch", 0)

    @property
    def _batches_at_once(self) -> int:
        """The number of batches made at once: 1 on a CPU, more on a GPU to launch fewer kernels."""
        on_gpu, size = self.dataset.images.is_cuda, self.batch_size
        return max(1, IMAGES_AT_ONCE // size) if on_gpu and size else 1

    def _batches(self) -> Sequence[Tensor]:
        """Return the images of each batch of this epoch, by their positions in all images."""
        data, size = self.dataset, self.batch_size
        if size is not None and isinstance(self.sampler, Shares):  # faster than the base class
            order = data.indices[self.sampler.order()].to(data.images.device)
            return order.split(size)[: len(self)]
        found = (torch.tensor(positions) for positions in self.batch_sampler or ())
        return [data.indices[positions].to(data.images.device) for positions in found]

    def _make(self, batches: Sequence[Tensor], first: int) -> list[Batch]:
        """Make consecutive batches; ``first`` is the number of the first one."""
        data, alone = self.dataset, len(batches) == 1
        chosen = batches[0] if alone else torch.cat([*batches])
        # This copies whole images; on the CPU, ``data.images[chosen]`` would copy byte by byte.
        images = data.images.index_select(0, chosen)
        labels = data.labels.index_select(0, chosen)
        if data.augment is not None:
            rank = getattr(self.sampler, "rank", 0)
            seed = derive_seed(data.seed, self._epoch, first, rank, AUGMENTATION)
            generator = torch.Generator(images.device).manual_seed(seed)
            images = data.augment(images, Draw(generator, chosen, self._epoch, data.seed))
        if alone:
            return [(images, labels)]
        sizes = [len(batch) for batch in batches]
        return list(zip(images.split(sizes), labels.split(sizes), strict=True))


def derive_seed(*numbers: int) -> int:
    """Mix non-negative integers into a 64-bit seed; zeros at the end make no difference."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _has_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
