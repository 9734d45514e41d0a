"""The random generators of torch, NumPy and Python: different in each process, and restored.

Dropout and random numbers of a user's own model continue where they were. Batches and augmentation
have generators of their own (data/loader.py).
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from cifar_lab.data.loader import derive_seed


def seed_process(rank: int) -> None:
    """Seed the process of a rank, with a seed derived from torch's initial one.

    All processes begin with the same seed, so that they build the same model. Without this, dropout
    would draw the same masks in all of them. The first process keeps its seed.
    """
    if rank:
        seed = derive_seed(torch.initial_seed(), rank)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)


def gathered_states() -> dict[str, list[Any]]:
    """Return the states of the generators in every process; all processes call it together.

    The states of a generator are plain values or uint8 tensors, one per process, in rank order.
    """
    states = _gathered({name: get() for name, (get, _) in _generators().items()})
    return {name: [found[name] for found in states] for name in states[0]}


def restore_states(states: Mapping[str, list[Any]], rank: int) -> None:
    """Set the generators of the process of a rank to what :func:`gathered_states` returned.

    The state of a kind of device that this process does not have is skipped; another kind of
    device draws other numbers anyway.
    """
    for name, (_, restore) in _generators().items():
        if found := states.get(name):
            state = found[rank % len(found)]
            restore(state.cpu() if isinstance(state, Tensor) else state)


def _generators() -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Return the functions that get and set the state of each generator of this process."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    modules: dict[str, Any] = {"cpu": torch, "cuda": torch.cuda, "mps": torch.mps}
    found = {
        kind: (module.get_rng_state, module.set_rng_state)
        for kind, module in modules.items()
        if there.get(kind, True)
    }
    numpy = _numpy_state, np.random.set_state
    return {**found, "numpy": numpy, "python": (random.getstate, random.setstate)}


def _numpy_state() -> tuple[Any, ...]:
    """Return the state of NumPy's generator with a list for its array, which can be read safely."""
    name, numbers, *others = np.random.get_state()
    return name, np.asarray(numbers).tolist(), *others


def _gathered(states: dict[str, Any]) -> list[dict[str, Any]]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return [states]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, states)
    return found
