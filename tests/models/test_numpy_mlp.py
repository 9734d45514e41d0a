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
    ("init", "hidden_units", "deviations"),
    [
        ("auto", [200], [1e-4, 1e-4]),
        ("report", [200, 200], [1e-4, 1e-4, 1e-4]),
        ("he", [200, 200], [(2 / 3072) ** 0.5, 0.1, 0.1]),
        ("pytorch", [200], [9216**-0.5, 600**-0.5]),
        ("auto", [200, 200], [9216**-0.5, 600**-0.5, 600**-0.5]),  # as several layers need it
    ],
)
def test_the_weights_begin_as_the_init_says(
    init: str, hidden_units: list[int], deviations: list[float]
) -> None:
    model = NumpyMLP(hidden_units, init)
    found = [p.std().item() for n, p in model.named_parameters() if n.endswith("weight")]
    assert found == pytest.approx(deviations, rel=0.05)
    assert bool(model.note) == (init == "auto" and len(hidden_units) > 1)
    assert model.hparams["init"] == init


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
