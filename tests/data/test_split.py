"""The validation split: balanced, seeded, and nothing in both parts."""

import numpy as np
import pytest

from cifar_lab.data.split import split_indices
from cifar_lab.errors import UserError


def test_the_default_holds_out_a_tenth_with_equal_classes() -> None:
    labels = np.arange(50_000) % 10
    train, val = split_indices(labels, None, seed=0)
    assert len(val) == 5_000
    assert np.bincount(labels[val]).tolist() == [500] * 10
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(50_000))


def test_the_split_depends_on_its_seed() -> None:
    labels = np.arange(1000) % 10
    first, again, other = (split_indices(labels, 100, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("val_size", [0, 1, 7, 50, 99])
def test_sizes_that_classes_do_not_divide_are_kept_exactly(val_size: int) -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    train, val = split_indices(labels, val_size, seed=0)
    assert (len(train), len(val)) == (100 - val_size, val_size)
    share = np.bincount(labels[val], minlength=3)
    exact = val_size * np.array([0.6, 0.3, 0.1])
    assert np.abs(share - exact).max() < 1
    up = share > exact  # what rounding leaves goes to the classes that lack most
    assert (exact % 1)[up].min(initial=1) >= (exact % 1)[~up].max(initial=0)


@pytest.mark.parametrize(
    ("val_size", "seed", "said"),
    [
        *((size, 0, f"val_size {size:,}: expected 0 to 99") for size in (-1, 100, 5000)),
        *((5, seed, f"split_seed {seed}: expected 0 to 4294967295") for seed in (-1, 2**32)),
    ],
)
def test_sizes_and_seeds_out_of_range_are_refused(val_size: int, seed: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        split_indices(np.arange(100) % 10, val_size, seed)
