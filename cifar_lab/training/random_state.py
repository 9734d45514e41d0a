"""The states of torch's random generators in a checkpoint: dropout goes on where it was.

Batches and augmentation need none of it; they have generators of their own (data/loader.py).
NumPy's and Python's generators are not used in training.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor


class RandomState(Callback):
    """Saves the states with each checkpoint, and sets them when the run that goes on begins.

    A state of a kind of device that a run does not have is left out; another kind of device draws
    other numbers anyway.
    """

    def __init__(self) -> None:
        self._states: dict[str, list[Tensor]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Kind of device to the states of its generators, uint8 tensors."""
        states = {"cpu": [torch.get_rng_state()]}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state_all()
        if torch.backends.mps.is_available():
            states["mps"] = [torch.mps.get_rng_state()]
        return states

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the states for the start: until then Lightning may draw numbers."""
        self._states = {
            kind: [state.cpu() for state in found] for kind, found in state_dict.items()
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the states."""
        states, self._states = self._states or {}, None
        if "cpu" in states:
            torch.set_rng_state(states["cpu"][0])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
        if "mps" in states and torch.backends.mps.is_available():
            torch.mps.set_rng_state(states["mps"][0])
