"""The states of torch's random generators in a checkpoint: dropout goes on where it was.

Batches and augmentation need none of it; they have generators of their own (data/loader.py).
NumPy's and Python's generators are not used in training.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, distributed


class RandomState(Callback):
    """Saves the states with each checkpoint, and sets them when the run that goes on begins.

    Each process has its own. A state of a kind of device that a run does not have is left out;
    another kind of device draws other numbers anyway.
    """

    def __init__(self) -> None:
        self._states: dict[str, list[Tensor]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Kind of device to the state of its generator in each process, uint8 tensors.

        All processes ask for it together.
        """
        states = _gathered(_own_states())
        return {kind: [found[kind] for found in states] for kind in states[0]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the states for the start: until then Lightning may draw numbers."""
        self._states = {
            kind: [state.cpu() for state in found] for kind, found in state_dict.items()
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the states of this process."""
        states, self._states = self._states or {}, None
        rank = trainer.global_rank
        own = {kind: found[rank % len(found)] for kind, found in states.items()}
        if "cpu" in own:
            torch.set_rng_state(own["cpu"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])
        if "mps" in own and torch.backends.mps.is_available():
            torch.mps.set_rng_state(own["mps"])


def _own_states() -> dict[str, Tensor]:
    """Of the present devices of this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def _gathered(states: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Those of all processes, by their rank."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [states]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, states)
    return found
