"""A loss or weights that are not finite end a run; the good checkpoint stays."""

import csv
from pathlib import Path

import pytest
import torch

from cifar_lab.models.classifier import ImageClassifier

RUN = Path("logs/mlp/version_0")
FEW = ["--log_every", "5", "--progress", "none", "--dashboard", "off"]


def _spoil(monkeypatch: pytest.MonkeyPatch, at: int, what: str) -> None:
    """Makes the loss, or the gradient of one layer, not finite at a step."""
    original = ImageClassifier.training_step

    def training_step(self: ImageClassifier, batch, batch_idx: int):
        outputs = original(self, batch, batch_idx)
        if self.global_step + 1 == at and what == "loss":
            outputs["loss"] = outputs["loss"] + float("nan")  # its gradient stays as it was
        if self.global_step + 1 == at and what == "gradient":
            self.network[3].weight.register_hook(lambda gradient: gradient * float("inf"))
        return outputs

    monkeypatch.setattr(ImageClassifier, "training_step", training_step)


def _saved() -> dict:
    return torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)


def _is_finite(checkpoint: dict) -> bool:
    return all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("loss", "step 12: the loss is not finite (all weights are finite; lr 0.002)"),
        ("gradient", "step 13: the loss is not finite (first in network.1.weight of 4; lr"),
    ],
)
def test_what_is_not_finite_ends_the_run_at_the_next_point_and_its_step_is_named(
    run, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    _spoil(monkeypatch, 12, what)
    status, _, told = run(*FEW)
    assert status == 1
    assert message in told
    assert "last.ckpt, step 10" in told
    assert _saved()["global_step"] == 10
    assert _is_finite(_saved())
    assert not (RUN / "summary.json").exists()
    with (RUN / "metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "5", "10"]


def test_the_step_is_that_of_the_optimizer_where_batches_are_accumulated(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, 3, "loss")
    status, _, told = run(*FEW, "--accumulate_grad_batches", "2")
    assert status == 1
    assert "step 3: the loss is not finite" in told


@pytest.mark.parametrize("clock", ["2", "1e-6"])
def test_weights_that_are_not_finite_replace_no_checkpoint(
    run, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    _spoil(monkeypatch, 10, "gradient")  # an evaluation follows, and a checkpoint
    status, _, told = run(*FEW, "--log_every", "25", "--checkpoint_minutes", clock)
    assert status == 1
    assert "step 10: weights are not finite (first in network.3.weight" in told
    assert _is_finite(_saved())
    assert _saved()["global_step"] == {"2": 0, "1e-6": 9}[clock]
