"""The plain loops: what they train, and how their curves are evaluated and written."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import plain_loops
from contenders import Setting, plain_loop


@pytest.fixture
def given(write_tree: Callable[..., Path]) -> dict[str, str]:
    return {"data_dir": str(write_tree(train=100)), "accelerator": "cpu"}


def test_an_epoch_takes_each_image_once_and_the_next_one_another_order(given, monkeypatch) -> None:
    setting = Setting("mlp", 6, {**given, "batch_size": "100"})
    seen: list[list[int]] = []
    monkeypatch.setattr(F, "cross_entropy", _noting(seen, setting))
    assert len(list(plain_loop(setting))) == 7  # before the first step, and after each
    first, second = (list(chain(*part)) for part in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(300))
    assert first != second


def _noting(seen: list[list[int]], setting: Setting):
    """A loss that notes which images a batch holds: their positions in place of labels."""
    images, labels = setting.train_tensors()
    setting.train_tensors = lambda: (images, torch.arange(len(labels)))  # type: ignore[method-assign]

    def loss(logits: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        seen.append(positions.tolist())
        return logits.sum()

    return loss


def test_a_curve_is_that_of_the_protocol(given, monkeypatch) -> None:
    was_training = []

    def loop(setting: Setting, seed: int):
        for step, model in enumerate(plain_loop(setting, seed)):
            was_training.append(model.training)
            yield model
            if step == setting.steps:
                model.eval()
                images, labels = setting.test_tensors()
                right.append((model(images).argmax(1) == labels).double().mean().item())

    right: list[float] = []
    monkeypatch.setattr("contenders.plain_loop", loop)
    curve = plain_loops.train(given, ("mlp", 3))
    assert curve["steps"] == list(range(100, 1501, 100))
    assert curve["accuracies"][-1] == pytest.approx(right[0], abs=0.03)
    assert curve["accuracies"][-1] > 0.9
    assert all(was_training)


@pytest.mark.slow
def test_the_command_writes_every_curve(given: dict[str, str], capsys) -> None:
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    words += ["--recipes", "mlp", "--seeds", "0,4", "--workers", "2", "--output", "out.json"]
    assert plain_loops.main(words) == 0
    assert capsys.readouterr().out.count("mlp, seed ") == 2
    found = json.loads(Path("out.json").read_text())["loops"]["mlp"]
    assert {seed: len(curve["accuracies"]) for seed, curve in found.items()} == {"0": 15, "4": 15}
    assert plain_loops.main(words) == 0  # nothing is trained again
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["mlpp", "numpy_mlp", "fast_cnn"])
def test_a_recipe_without_a_plain_loop_is_refused_in_a_line(name: str, capsys) -> None:
    assert plain_loops.main(["--recipes", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"plain_loops.py: --recipes {name}: unknown")
    assert err.count("\n") == 1
