"""The plain loops: what they train, and how their curves are evaluated and written."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import plain_loops
from contenders import Setting, plain_loop


@pytest.fixture
def given(write_tree: Callable[..., Path]) -> dict[str, str]:
    return {"data_dir": str(write_tree(train=100)), "accelerator": "cpu"}


def test_an_epoch_takes_each_image_once_and_the_next_one_another_order(given, monkeypatch) -> None:
    setting = Setting("mlp", 6, {**given, "batch_size": "100", "lr": "1e-5"})
    drawn, usual = [], torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda n: drawn.append(usual(n)) or drawn[-1])
    models = [{k: v.clone() for k, v in m.state_dict().items()} for m in plain_loop(setting)]
    assert len(models) == 7  # before the first step, and after each
    assert len(drawn) == 2  # of 300 images
    assert not torch.equal(*drawn)
    changed = [
        not torch.equal(a["network.3.bias"], b["network.3.bias"]) for a, b in pairwise(models)
    ]
    assert all(changed)


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
    assert found["seeds"] == [0, 4]
    assert [len(curve) for curve in found["accuracies"]] == [15, 15]


def test_a_wrong_recipe_is_told_in_a_line(given: dict[str, str], capsys) -> None:
    assert plain_loops.main(["--recipes", "mlpp", "--data_dir", given["data_dir"]]) == 2
    err = capsys.readouterr().err
    assert err.startswith("plain_loops.py: ")
    assert "did you mean mlp?" in err
