"""numpy_mlp: nothing of autograd, the numbers of the torch MLP, and what it refuses."""

import pytest
import torch
from pytorch_lightning import seed_everything

from cifar_lab.errors import UserError
from cifar_lab.models import MLP, NumpyMLP


def test_training_asks_nothing_of_autograd(fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a, **k: pytest.fail("autograd"))
    model = NumpyMLP(num_classes=3)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert fit(model, steps=10).global_step == 10


def test_it_trains_as_the_torch_mlp_does_from_the_same_weights(fit) -> None:
    seed_everything(0, verbose=False)
    ours, theirs = NumpyMLP(num_classes=3), MLP(num_classes=3, init="report")
    with torch.no_grad():
        for source, target in zip(
            ours.network.parameters(), theirs.network.parameters(), strict=True
        ):
            target.copy_(source)
    for model in (ours, theirs):
        fit(model, steps=10)
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
def test_what_makes_no_sense_outside_torch_is_refused_in_one_line(options: dict, trainer) -> None:
    flag = next(iter(options))
    with pytest.raises(UserError, match=f"one CPU process, float32, no {flag}") as caught:
        NumpyMLP().check_trainer(trainer(**options))
    assert "\n" not in str(caught.value)
