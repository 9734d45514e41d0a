"""A loss or weights that are not finite end a run; the good checkpoint stays."""

import shlex
from pathlib import Path

import pytest
import torch

from cifar_lab.cli import fit
from cifar_lab.models.classifier import ImageClassifier

RUN = Path("logs/mlp/version_0")


@pytest.fixture
def run(tree: Path, capsys: pytest.CaptureFixture[str]):
    def run_fit(*words: str) -> tuple[int, str]:
        given = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --max_steps 25"
        given += " --log_every 5 --eval_every 10 --progress none --dashboard off"
        return fit([*shlex.split(given), *words]), capsys.readouterr().err

    return run_fit


def _spoil(monkeypatch: pytest.MonkeyPatch, at: int, what: str) -> None:
    """Makes the loss, or the gradient of one layer, not finite at a step."""
    original = ImageClassifier.training_step

    def training_step(self: ImageClassifier, batch, batch_idx: int):
        loss = original(self, batch, batch_idx)
        if self.global_step + 1 == at and what == "loss":
            _, correct, count = self.meter._batches.pop()
            self.meter._batches.append((torch.tensor(float("nan")), correct, count))
        if self.global_step + 1 == at and what == "gradient":
            self.network[3].weight.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(ImageClassifier, "training_step", training_step)


def _saved() -> dict:
    return torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)


def _is_finite(checkpoint: dict) -> bool:
    return all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_a_loss_is_found_at_the_next_point_and_its_step_is_named(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, 12, "loss")
    status, told = run()
    assert status == 1
    assert "step 12: the loss is not finite" in told
    assert "lr 0.002" in told
    assert "last.ckpt, step 10" in told
    assert _saved()["global_step"] == 10
    assert not (RUN / "summary.json").exists()


def test_a_gradient_is_found_with_the_weights_that_it_spoilt(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(monkeypatch, 12, "gradient")
    status, told = run()
    assert status == 1
    assert "step 13: the loss is not finite (first in network." in told
    assert _saved()["global_step"] == 10
    assert _is_finite(_saved())


@pytest.mark.parametrize("clock", ["2", "1e-6"])
def test_weights_that_are_not_finite_replace_no_checkpoint(
    run, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    _spoil(monkeypatch, 10, "gradient")  # an evaluation follows, and a checkpoint
    status, told = run("--log_every", "25", "--checkpoint_minutes", clock)
    assert status == 1
    assert "step 10: weights are not finite (first in network.3.weight" in told
    assert _is_finite(_saved())
    assert _saved()["global_step"] == {"2": 0, "1e-6": 9}[clock]


def test_a_learning_rate_that_is_far_too_large_ends_the_run(run) -> None:
    status, told = run("--lr", "1e20")
    assert status == 1
    assert "not finite (first in network." in told
    assert "lr 1e+20" in told
    assert _is_finite(_saved())
