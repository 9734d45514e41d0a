"""The network of a checkpoint in NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture
def numpy_logits() -> Callable[[Path, np.ndarray], np.ndarray]:
    """Compute the logits of an MLP in float64 from the weights in its file."""

    def logits(checkpoint: Path, images: np.ndarray) -> np.ndarray:
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        state = {name: tensor.double().numpy() for name, tensor in state.items()}
        weights = [array for name, array in state.items() if name.startswith("network.")]
        x = ((images - state["normalize.mean"]) / state["normalize.std"]).reshape(len(images), -1)
        return np.maximum(x @ weights[0].T + weights[1], 0) @ weights[2].T + weights[3]

    return logits
