"""Batches from memory: shuffled, sharded, augmented and resumable, without worker processes.

CIFAR-10 takes 184 MB as uint8. It stays in the memory of the device that trains, and a batch is
gathered in one operation, so worker processes have nothing to do. Images are uint8 (B, C, H, W),
labels int64 (B,).

A batch depends on the seed, the epoch and its number only. The order comes from a generator seeded
by (seed, epoch), the augmentation from one seeded by (seed, epoch, batch, rank). On a GPU, several
batches are made at once from the seed of the first one. No other random numbers change a batch, and
a run that is resumed in the middle of an epoch gets the same batches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from cifar_lab.data.augment import Augmentation, Draw

Batch = tuple[Tensor, Tensor]
IMAGES_AT_ONCE = 10_000  # images that a GPU augments at once; the random numbers depend on it
AUGMENTATION = 1  # keeps these seeds apart from those of the order; a 0 would not change a seed


class BatchLoader:
    """An iterable over the batches of one epoch.

    Args:
        images: uint8 (N, C, H, W), on any device. The batches are made on this device.
        labels: int64 (N,), on the same device.
        indices: int64 (M,), positions of this split's images, in a fixed order.
        batch_size: number of images in a batch of each process.
        shuffle: whether each epoch has a new order.
        drop_last: whether to leave out the last batch if it is smaller.
        seed: seed of the order and of the augmentation.
        rank: number of this process, from 0.
        world_size: number of processes that share the split. A shuffled split is cut to equal
            shares, so at most ``world_size - 1`` images are left out. Any other split is dealt out
            whole.
        augment: augmentation of a batch of images.
        resume_at: function of the loader that returns how many batches the first iteration skips.
            It is called when the first batch is asked for, in place of the state that was loaded.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        augment: Augmentation | None = None,
        resume_at: Callable[[BatchLoader], int] | None = None,
    ) -> None:
        self.images, self.labels, self.indices = images, labels, indices
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.augment = augment
        self.epoch = 0
        self._consumed = 0  # number of batches of this epoch that were returned
        self._skipped = 0  # number of batches that the next iteration skips
        self._resume_at = resume_at

    def __len__(self) -> int:
        """Return the number of batches in a full epoch, also after a state was loaded."""
        count = self._share()
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the current epoch. After the last one, the next epoch is current."""
        resume_at, self._resume_at = self._resume_at, None
        start, self._skipped = resume_at(self) if resume_at else self._skipped, 0
        order = self._order()
        chunk, images, labels = -1, order, order
        for batch in range(start, len(self)):
            number, position = divmod(batch, self._batches_at_once)
            if number != chunk:
                chunk = number
                images, labels = self._make(order, chunk)
            self._consumed = batch + 1
            own = slice(position * self.batch_size, (position + 1) * self.batch_size)
            yield images[own], labels[own]
        self.epoch += 1
        self._consumed = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order the next iteration follows."""
        self.epoch = epoch

    @property
    def sampler(self) -> BatchLoader:
        """This loader, so that Lightning calls ``loader.sampler.set_epoch`` if it is shuffled."""
        if not self.shuffle:
            raise AttributeError("a loader with a fixed order has no sampler")
        return self

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches were returned."""
        return {"epoch": self.epoch, "batches": self._consumed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at this position; after a finished epoch, ``set_epoch`` must set the next."""
        self.epoch = state["epoch"]
        self._skipped = self._consumed = state["batches"] % max(len(self), 1)

    def _share(self) -> int:
        whole, rest = divmod(len(self.indices), self.world_size)
        return whole if self.shuffle or self.rank >= rest else whole + 1

    def _order(self) -> Tensor:
        """Return the indices of this process in the order of this epoch."""
        order = self.indices
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
            order = order[torch.randperm(len(order), generator=generator)]
        order = order[self.rank :: self.world_size][: self._share()]
        return order.to(self.images.device)

    @property
    def _batches_at_once(self) -> int:
        """The number of batches made at once: 1 on a CPU, more on a GPU to launch fewer kernels."""
        return max(1, IMAGES_AT_ONCE // self.batch_size) if self.images.is_cuda else 1

    def _make(self, order: Tensor, chunk: int) -> Batch:
        first, count = chunk * self._batches_at_once, self._batches_at_once
        chosen = order[first * self.batch_size : (first + count) * self.batch_size]
        # This copies whole images. On the CPU, ``self.images[chosen]`` would copy single bytes.
        images = self.images.index_select(0, chosen)
        labels = self.labels.index_select(0, chosen)
        if self.augment is not None:
            seed = derive_seed(self.seed, self.epoch, first, self.rank, AUGMENTATION)
            generator = torch.Generator(images.device).manual_seed(seed)
            images = self.augment(images, Draw(generator, chosen, self.epoch, self.seed))
        return images, labels


def derive_seed(*numbers: int) -> int:
    """Mix non-negative integers into a 64-bit seed; zeros at the end make no difference."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
