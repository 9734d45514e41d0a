"""The states of torch's random generators, for dropout to continue where it was.

Batches and augmentation need none of it: they have generators of their own (data/loader.py).
NumPy's and Python's generators are not used in training.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed


def gathered_states() -> dict[str, list[Tensor]]:
    """Return the states of the generators in every process; all processes call it together.

    The states of a kind of device are uint8 tensors, one for each process by its rank.
    """
    states = _gathered({kind: home.get_rng_state() for kind, home in _generators().items()})
    return {kind: [found[kind] for found in states] for kind in states[0]}


def restore_states(states: Mapping[str, list[Tensor]], rank: int) -> None:
    """Set the generators of the process of a rank to what :func:`gathered_states` returned.

    The state of a kind of device that this process does not have is left out; another kind of
    device draws other numbers anyway.
    """
    for kind, home in _generators().items():
        if found := states.get(kind):
            home.set_rng_state(found[rank % len(found)].cpu())


def _generators() -> dict[str, Any]:
    """Return the module of torch for each kind of device that this process has."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    modules = {"cpu": torch, "cuda": torch.cuda, "mps": torch.mps}
    return {kind: module for kind, module in modules.items() if there.get(kind, True)}


def _gathered(states: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return [states]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, states)
    return found
