"""The validation split: held out of the training images, stratified by class, from a seed."""

from __future__ import annotations

import numpy as np

from cifar_lab.errors import UserError

VAL_FRACTION = 0.1  # 5,000 of CIFAR-10's 50,000


def split_indices(
    labels: np.ndarray, val_size: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divides the training images into a training and a validation split.

    Each class gives the validation split its share of ``val_size``; CIFAR-10's classes are equal
    in size, so they give equal numbers.

    Args:
        labels: int64 (N,), classes from 0.
        val_size: images to hold out, 0 to N - 1; None holds out a tenth.
        seed: of the choice within each class, 0 to 2**32 - 1. NumPy keeps this generator's stream
            for good.

    Returns:
        Indices of the training split and of the validation split, int64, each ascending.

    Raises:
        UserError: ``val_size`` leaves nothing to train on, or ``seed`` is none of NumPy's.
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
    """Deals ``total`` out in proportion to ``counts``; what rounding leaves goes where most is."""
    exact = counts * total / counts.sum()
    shares = np.floor(exact).astype(np.int64)
    neediest = np.argsort(shares - exact, kind="stable")
    shares[neediest[: total - shares.sum()]] += 1
    return shares
