"""FastMLP: its blocks begin as the identity, and its optimizers treat its parts as they say."""

import pytest
import torch
from torch import Tensor

from cifar_lab.layers.principal import PrincipalComponents
from cifar_lab.models import FastMLP, fast_mlp
from cifar_lab.models.fast_mlp import FastMLPNetwork, ResidualBlock


def _normalised(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    deviation = (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    return (x - x.mean(1, keepdim=True)) / deviation * norm.weight + norm.bias


@pytest.mark.parametrize("bilinear", [True, False])
def test_a_block_begins_as_the_identity_and_adds_what_is_written(bilinear: bool) -> None:
    block = ResidualBlock(6, 24, bilinear, 0.0)
    x = torch.randn(5, 6)
    assert torch.equal(block(x), x)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    units = block.widen(_normalised(x, block.norm))
    hidden = units[:, :24] * units[:, 24:] if bilinear else torch.nn.functional.gelu(units)
    expected = x + block.narrow(_normalised(hidden, block.hidden_norm))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_dropout_zeroes_hidden_units_behind_their_normalisation() -> None:
    block = ResidualBlock(6, 24, True, 0.5)
    seen = []
    block.narrow.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    block(torch.randn(50, 6))
    zeros = (seen[0] == 0).float().mean().item()
    assert 0.4 < zeros < 0.6
    block.eval()(torch.randn(50, 6))
    assert (seen[1] != 0).all()


@pytest.mark.parametrize(("bilinear", "widened"), [(True, 64), (False, 32)])
def test_the_network_has_the_layers_of_its_settings(bilinear: bool, widened: int) -> None:
    for components, inputs in ((40, 40), (0, 3072)):
        network = FastMLPNetwork(10, components, 16, 3, 2, bilinear, dropout=0.0)
        shapes = [tuple(p.shape) for p in network.parameters() if p.ndim == 2]
        assert shapes == [(16, inputs), *[(widened, 16), (16, 32)] * 3, (10, 16)]
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_components_are_those_of_the_training_images_computed_once(
    fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_mlp, "PIECE", 7)
    model = FastMLP(components=6, width=8, blocks=1, num_classes=3)
    trainer = fit(model)
    data = trainer.datamodule
    expected = PrincipalComponents(3072, 6)
    images = torch.from_numpy(data.image_set.train_images)
    expected.fill(lambda: [model.normalize(images)])
    torch.testing.assert_close(model.network.principal.weight.abs(), expected.weight.abs())
    before = model.network.principal.weight.clone()
    data.image_set.train_images[:] = 0
    model.setup("fit")
    assert torch.equal(model.network.principal.weight, before)


def test_adamw_trains_all_with_one_rate(fit) -> None:
    trainer = fit(FastMLP(width=8, blocks=1, num_classes=3, lr=0.01, warmup=0.5))
    optimizer = trainer.optimizers[0]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 3)  # the last of four steps


def test_muon_trains_weights_that_begin_at_zero(fit) -> None:
    model = FastMLP(width=8, blocks=1, num_classes=3, optimizer="muon", lr=0.05, weight_decay=0.01)
    groups = fit(model).optimizers[0].param_groups
    assert [[p.ndim for p in group["params"]] for group in groups] == [[2] * 3, [1] * 10, [2]]
    assert [group["orthogonal"] for group in groups] == [True, False, False]
    assert all(p.isfinite().all() for p in model.parameters())
