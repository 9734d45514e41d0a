"""Commands called as from a shell, and the network of a checkpoint in NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cifar_lab.cli import main


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return its status, its output and its errors."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        lines = err.splitlines(keepends=True)  # without that of the cache, empty in each test
        return status, out, "".join(line for line in lines if not line.startswith("decoding "))

    return call


@pytest.fixture
def refused(call: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run a command on wrong input; return its error, of a line or two."""

    def refused(command: str, *words: object) -> str:
        status, out, err = call(command, *words)
        assert (status, out) == (2, "")
        assert err.startswith(f"cifar-lab {command}: ")
        assert err.count("\n") in (1, 2)
        return err

    return refused


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
