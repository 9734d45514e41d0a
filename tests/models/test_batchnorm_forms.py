"""The three forms of batch normalization train a model alike, and can be exchanged."""

import pytest
import torch
from torch.nn import functional as F

from cifar_lab.errors import UserError
from cifar_lab.layers import KINDS
from cifar_lab.models import CNN, BatchNormMLP, ImageClassifier


def _model(name: str, kind: str) -> ImageClassifier:
    if name == "cnn":
        return CNN(batchnorm=kind)
    return BatchNormMLP(hidden_units=[50, 20], batchnorm=kind)


def _losses(name: str, kind: str, steps: int, batch: int, dtype: torch.dtype) -> list[float]:
    """Losses of training from the same weights on the same batch, with the model's optimizer."""
    model = _model(name, kind)
    model.load_state_dict(_model(name, "native").state_dict(), strict=True)
    torch.manual_seed(0)
    for parameter in model.network.parameters():
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
    model.to(dtype)
    optimizer, losses = model.configure_optimizers(), []
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (batch, 3, 32, 32), generator=generator).byte()
    labels = torch.randint(0, 10, (batch,), generator=generator)
    for _ in range(steps):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("name", "steps", "batch"),
    [
        ("batchnorm_mlp", 200, 16),
        pytest.param("cnn", 15, 2, marks=pytest.mark.slow),  # 200 take minutes, and agree as well
    ],
)
def test_the_three_forms_give_the_same_losses_in_float64(name: str, steps: int, batch: int) -> None:
    native, manual, composed = (
        torch.tensor(_losses(name, kind, steps, batch, torch.float64), dtype=torch.float64)
        for kind in ("native", "manual", "composed")
    )
    assert native[-1] < 0.9 * native[0]  # it did train
    torch.testing.assert_close(manual, native, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(composed, native, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["batchnorm_mlp", "cnn"])
def test_the_first_loss_agrees_in_float32(name: str) -> None:
    losses = [_losses(name, kind, 1, 8, torch.float32)[0] for kind in KINDS]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("name", ["batchnorm_mlp", "cnn"])
def test_another_form_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="batchnorm 'sync': expected one of manual, composed, nat"):
        _model(name, "sync")
