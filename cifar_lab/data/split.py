"""The validation split, held out of the training images: stratified by class and seeded."""

import numpy as np

from cifar_lab.errors import UserError

VAL_FRACTION = 0.1  # 5,000 of CIFAR-10's 50,000


def split_indices(
    labels: np.ndarray, val_size: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split the training images; each class is held out in proportion to its size.

    Args:
        labels: int64 (N,), numbers of the classes from 0.
        val_size: number of images to hold out, 0 to N - 1; None holds out a tenth.
        seed: seed of the choice within each class, 0 to 2**32 - 1. NumPy guarantees that the stream
            of this generator never changes.

    Returns:
        Indices of the training split and of the validation split, int64, each ascending.

    Raises:
        UserError: ``val_size`` leaves nothing to train on, or ``seed`` is out of its range.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"split_seed {seed}: expected 0 to {2**32 - 1}")
    if val_size is None:
        val_size = max(1, int(len(labels) * VAL_FRACTION))
    if not 0 <= val_size < len(labels):
        raise UserError(
            f"val_size {val_size:,}: expected 0 to {len(labels) - 1:,}, as the training set has "
            f"{len(labels):,} images"
        )
    generator = np.random.RandomState(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label, share in enumerate(_shares(np.bincount(labels), val_size)):
        members = np.flatnonzero(labels == label)
        held_out[generator.permutation(members)[:share]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """Divide ``total`` in proportion to ``counts``; the largest remainders are rounded up."""
    exact = counts * total / counts.sum()
    shares = np.floor(exact).astype(np.int64)
    neediest = np.argsort(shares - exact, kind="stable")
    shares[neediest[: total - shares.sum()]] += 1
    return shares


def mixed(indices: np.ndarray) -> np.ndarray:
    """Return the indices in a fixed random order, since image trees are sorted by class."""
    return np.random.RandomState(0).permutation(indices)
