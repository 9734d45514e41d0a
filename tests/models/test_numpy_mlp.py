"""numpy_mlp: nothing of autograd, memory shared with checkpoints, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer, seed_everything

from cifar_lab import CIFAR10DataModule
from cifar_lab.errors import UserError
from cifar_lab.models import MLP, NumpyMLP


def _trainer(**options) -> Trainer:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = {"accelerator": "cpu", "max_steps": 10, **dict.fromkeys(quiet, False), **options}
    return Trainer(**options)


def test_training_asks_nothing_of_autograd(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a, **k: pytest.fail("autograd"))
    model = NumpyMLP(num_classes=3)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    trainer = _trainer()
    trainer.fit(model, CIFAR10DataModule(tree, batch_size=20))
    assert trainer.global_step == 10


def test_the_arrays_are_the_memory_of_the_parameters(tree: Path) -> None:
    model = NumpyMLP(num_classes=3)
    _trainer().fit(model, CIFAR10DataModule(tree, batch_size=20))
    parameters = iter(model.network.parameters())
    for _, layer in model.numpy_network:
        for array in layer.params.values():
            parameter = next(parameters)
            assert np.shares_memory(array, parameter.numpy())
            assert array.any()  # trained: the biases began at zero


def test_it_trains_as_the_torch_mlp_does_from_the_same_weights(tree: Path) -> None:
    seed_everything(0, verbose=False)
    ours, theirs = NumpyMLP(num_classes=3), MLP(num_classes=3, init="report")
    with torch.no_grad():
        for source, target in zip(
            ours.network.parameters(), theirs.network.parameters(), strict=True
        ):
            target.copy_(source)
    for model in (ours, theirs):
        _trainer().fit(model, CIFAR10DataModule(tree, batch_size=20))
    for a, b in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed"},
        {"devices": 2, "strategy": "ddp"},
        {"gradient_clip_val": 1.0},
        {"accumulate_grad_batches": 2},
    ],
)
def test_what_makes_no_sense_outside_torch_is_refused_in_one_line(options: dict) -> None:
    flag = next(iter(options))
    with pytest.raises(UserError, match=f"one CPU process, float32, no {flag}") as caught:
        NumpyMLP().check_trainer(_trainer(**options))
    assert "\n" not in str(caught.value)
