"""Batches from memory: shuffled, sharded, augmented and resumable, without worker processes.

CIFAR-10 is 184 MB of uint8. It stays whole in memory, on the device that trains, and a batch is one
gather; so there is nothing for worker processes to do. Images are uint8 (B, C, H, W), labels int64
(B,).

What a batch holds depends on (seed, epoch, batch number) alone: the order comes from a generator
seeded by (seed, epoch), the augmentation from one seeded by (seed, epoch, batch, rank). On a GPU
several batches are made at once, from the seed of the first one. Nothing else that draws random
numbers can change it, and a run that resumes in the middle of an epoch sees the batches that it
would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cifar_lab.data.augment import Augmentation, Draw

Batch = tuple[Tensor, Tensor]
IMAGES_AT_ONCE = 10_000  # that a GPU augments; decides, with the seed, what it draws
AUGMENTATION = 1  # tells its seeds from that of the order: zeros at the end change no seed


class BatchLoader:
    """An iterable over the batches of one epoch.

    Args:
        images: uint8 (N, C, H, W), on any device; batches are made there.
        labels: int64 (N,), on the same device.
        indices: int64 (M,), the images of this split, in their fixed order.
        batch_size: images a batch, for each process.
        shuffle: a new order each epoch.
        drop_last: leave out the last batch where it is smaller.
        seed: of order and augmentation.
        rank: which of ``world_size`` processes this is.
        world_size: number of processes that share the split. A shuffled split is cut to equal
            shares (at most ``world_size - 1`` images left out), any other is dealt out whole.
        augment: applied to each batch of images.
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
    ) -> None:
        self.images, self.labels, self.indices = images, labels, indices
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.augment = augment
        self.epoch = 0
        self._consumed = 0  # batches of this epoch that were handed out
        self._resume_at = 0  # batches that the next iteration skips

    def __len__(self) -> int:
        """Batches of a full epoch for this process, also after a state was loaded."""
        count = self._share()
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches of the current epoch; a finished epoch moves on to the next one."""
        start, self._resume_at = self._resume_at, 0
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
        """Chooses the epoch whose order the next iteration follows."""
        self.epoch = epoch

    @property
    def sampler(self) -> BatchLoader:
        """The object that Lightning tells the epoch, through ``loader.sampler.set_epoch``.

        Raises:
            AttributeError: the order is fixed, so there is nothing to tell.
        """
        if not self.shuffle:
            raise AttributeError("a loader with a fixed order has no sampler")
        return self

    def state_dict(self) -> dict[str, int]:
        """Where this loader stands: its epoch, and batches handed out of it.

        Returns:
            ``{"epoch": …, "batches": …, "follows_epochs": …}``; the last, whether Lightning tells
            it the epoch (``sampler``).
        """
        state = {"epoch": self.epoch, "batches": self._consumed}
        return {**state, "follows_epochs": int(self.shuffle)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues where ``state`` stood; a finished epoch with a whole one.

        Its number is told by ``set_epoch``, as Lightning does.
        """
        self.epoch = state["epoch"]
        self._resume_at = self._consumed = state["batches"] % max(len(self), 1)

    def _share(self) -> int:
        """Images of this process."""
        whole, rest = divmod(len(self.indices), self.world_size)
        return whole if self.shuffle or self.rank >= rest else whole + 1

    def _order(self) -> Tensor:
        """The indices of this process in this epoch's order, on the images' device."""
        order = self.indices
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
            order = order[torch.randperm(len(order), generator=generator)]
        order = order[self.rank :: self.world_size][: self._share()]
        return order.to(self.images.device)

    @property
    def _batches_at_once(self) -> int:
        """On the CPU one; on a GPU, which starts small operations slowly, as many as fit."""
        return max(1, IMAGES_AT_ONCE // self.batch_size) if self.images.is_cuda else 1

    def _make(self, order: Tensor, chunk: int) -> Batch:
        """The images and labels of some batches."""
        first, count = chunk * self._batches_at_once, self._batches_at_once
        chosen = order[first * self.batch_size : (first + count) * self.batch_size]
        # Copies whole images; on the CPU ``self.images[chosen]`` would go byte by byte.
        images = self.images.index_select(0, chosen)
        labels = self.labels.index_select(0, chosen)
        if self.augment is not None:
            seed = derive_seed(self.seed, self.epoch, first, self.rank, AUGMENTATION)
            generator = torch.Generator(images.device).manual_seed(seed)
            images = self.augment(images, Draw(generator, chosen, self.epoch, self.seed))
        return images, labels


def derive_seed(*numbers: int) -> int:
    """Mixes non-negative integers into one 64-bit seed, so that neighbours are unrelated.

    Zeros at the end make no difference.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
