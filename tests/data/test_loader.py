"""The loader: which images a batch holds, over epochs, processes and interruptions."""

from collections.abc import Iterable
from itertools import chain, combinations, islice
from unittest.mock import Mock

import pytest
import torch
from torch.utils.data import DataLoader

from cifar_lab.data import loader as loader_module
from cifar_lab.data.augment import compose
from cifar_lab.data.loader import Batch, BatchLoader, InOrder, Shares, Split, derive_seed


def _split(count: int = 23, images=None, **options) -> Split:
    """A split whose labels, and usually pixels, are the numbers of the images."""
    numbers = torch.arange(count)
    if images is None:
        images = numbers.byte().reshape(-1, 1, 1, 1).repeat(1, 3, 8, 8)
    return Split(images, numbers, numbers, **options)


def _loader(
    count: int = 23,
    batch_size: int = 5,
    shuffle: bool = False,
    drop_last: bool = False,
    share: tuple[int, int] = (0, 1),
    seed: int = 0,
    **options,
) -> BatchLoader:
    split, (rank, world_size) = _split(count, seed=seed, **options), share
    sampler = (Shares if shuffle else InOrder)(split, world_size, rank, seed)
    return BatchLoader(split, batch_size, sampler=sampler, drop_last=drop_last)


def _assert_equal(batches: Iterable[Batch], expected: Iterable[Batch]) -> None:
    for found, other in zip(batches, expected, strict=True):
        assert torch.equal(found[0], other[0])
        assert torch.equal(found[1], other[1])


def _seen(loader: BatchLoader) -> list[int]:
    return [label for _, labels in loader for label in labels.tolist()]


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_every_image_comes_exactly_once_whatever_the_batch_size(batch_size: int) -> None:
    loader = _loader(batch_size=batch_size)
    assert _seen(loader) == list(range(23))
    assert len(loader) == -(-23 // batch_size)


def test_shuffled_images_keep_their_labels_and_drop_last_leaves_out_the_smaller_batch() -> None:
    loader = _loader(drop_last=True, shuffle=True)
    for images, labels in loader:
        assert torch.equal(images[:, 0, 0, 0].long(), labels)
        assert (images.dtype, len(labels)) == (torch.uint8, 5)
    assert len(loader) == len(list(loader)) == 4


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first, second = _loader(shuffle=True), _loader(shuffle=True)
    epochs = [_seen(first) for _ in range(3)]
    assert len({tuple(order) for order in epochs}) == 3
    torch.manual_seed(99)  # nobody else's random numbers matter
    second.sampler.set_epoch(2)
    assert _seen(second) == epochs[2]
    assert _seen(_loader(shuffle=True, seed=1)) != epochs[0]


def test_order_and_augmentation_never_share_their_random_numbers(monkeypatch) -> None:
    noted = Mock(wraps=loader_module.derive_seed)
    monkeypatch.setattr(loader_module, "derive_seed", noted)
    for seed in range(3):
        loader = _loader(shuffle=True, augment=compose(["crop"]), seed=seed)
        for _ in range(3):
            list(loader)
    assert noted.call_count == 3 * 3 * (1 + 5)
    assert len({derive_seed(*call.args) for call in noted.mock_calls}) == noted.call_count


def test_a_loader_is_one_of_pytorch_over_the_images_of_the_split() -> None:
    loader = _loader(shuffle=True, drop_last=True)
    assert isinstance(loader, DataLoader)
    assert (len(loader.dataset), loader.batch_size, loader.drop_last) == (23, 5, True)
    theirs = DataLoader(loader.dataset, sampler=loader.sampler, batch_size=5, drop_last=True)
    _assert_equal(list(theirs), list(loader))  # before the next epoch begins


def test_any_sampler_of_pytorch_can_take_the_place_of_ours() -> None:
    split = _split(7, augment=compose(["flip"]))
    assert _seen(BatchLoader(split, 3)) == list(range(7))
    assert sorted(_seen(BatchLoader(split, 3, shuffle=True))) == list(range(7))
    given = BatchLoader(split, batch_sampler=[[3, 1], [6]])
    assert [labels.tolist() for _, labels in given] == [[3, 1], [6]]
    fixed = _loader(7, 3, augment=compose(["flip"]))
    fixed.sampler.set_epoch(4)  # as Lightning does; with overfit_batches nothing shall change
    _assert_equal(fixed, _loader(7, 3, augment=compose(["flip"])))


def test_processes_are_those_of_the_process_group_if_nothing_else_is_said(monkeypatch) -> None:
    samplers = Shares(_split()), InOrder(_split())
    assert [len(sampler) for sampler in samplers] == [23, 23]
    group = Mock(get_rank=lambda: 1, get_world_size=lambda: 2)
    monkeypatch.setattr(loader_module, "distributed", group)
    assert list(samplers[1]) == list(range(1, 23, 2))
    assert list(samplers[0]) == list(Shares(_split(), 2, 1))
    assert len(Shares(_split(), 1, 0)) == 23  # a Trainer of one device in a group


def test_a_loaded_state_continues_in_the_middle_of_an_epoch_with_the_same_batches() -> None:
    whole, stopped, resumed = (
        _loader(shuffle=True, augment=compose(["flip", "crop"])) for _ in range(3)
    )
    whole.sampler.set_epoch(3)
    expected = list(whole)
    stopped.sampler.set_epoch(3)
    list(islice(stopped, 2))
    state = stopped.state_dict()
    assert state == {"epoch": 3, "batches": 2}
    resumed.load_state_dict(state)
    assert len(resumed) == 5  # of the full epoch
    _assert_equal(resumed, expected[2:])
    assert len(list(resumed)) == 5  # the next epoch is whole again
    list(islice(stopped, 5))
    resumed.load_state_dict(stopped.state_dict())
    assert len(list(resumed)) == 5  # also the one after a state of its end


@pytest.mark.parametrize("count", [22, 23, 24])
def test_processes_share_an_evaluation_without_loss_or_repetition(count: int) -> None:
    loaders = [_loader(count, share=(rank, 3)) for rank in range(3)]
    seen = [_seen(loader) for loader in loaders]
    assert sorted([*chain(*seen)]) == list(range(count))
    assert [len(loader) for loader in loaders] == [-(-len(part) // 5) for part in seen]


def test_processes_share_an_epoch_in_equal_parts_without_repetition() -> None:
    seen = [_seen(_loader(24, shuffle=True, share=(rank, 2))) for rank in range(2)]
    assert [len(part) for part in seen] == [12, 12]
    assert sorted([*chain(*seen)]) == list(range(24))


def test_each_epoch_batch_and_process_is_augmented_differently() -> None:
    same = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(80, 3, 1, 1)
    found, flip = [], compose(["flip"])
    for seed, rank in ((0, 0), (0, 1), (1, 0)):
        loader = _loader(80, 20, images=same, seed=seed, share=(rank, 2), augment=flip)
        for _epoch in range(2):
            found += [images for images, _ in loader]
    assert len(found) == 12
    for one, other in combinations(found, 2):
        assert not torch.equal(one, other)


def test_batches_that_are_made_together_are_the_same_batches(monkeypatch) -> None:
    alone = list(_loader(batch_size=4, shuffle=True))
    monkeypatch.setattr(BatchLoader, "_batches_at_once", 3)
    assert len(alone) == 6
    _assert_equal(_loader(batch_size=4, shuffle=True), alone)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_batches_made_together_go_on_where_they_stopped(monkeypatch, stop: int) -> None:
    monkeypatch.setattr(BatchLoader, "_batches_at_once", 3)
    torch.manual_seed(0)
    noise = torch.randint(256, (23, 3, 8, 8), dtype=torch.uint8)  # every shift of it is another
    options = {"images": noise, "shuffle": True, "augment": compose(["flip", "crop"])}
    again = _loader(batch_size=4, **options)
    again.load_state_dict({"epoch": 0, "batches": stop})
    _assert_equal(again, list(_loader(batch_size=4, **options))[stop:])
