"""FastCNN: its network, the rates of its parts, small images first, the fixed first layer."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn

from cifar_lab import CIFAR10DataModule
from cifar_lab.models import FastCNN
from cifar_lab.models.fast_cnn import FastCNNNetwork


def _fit(model: FastCNN, tree: Path, steps: int = 4) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, CIFAR10DataModule(tree, batch_size=20, val_size=0))
    return trainer


@pytest.mark.parametrize("size", [9, 16, 24, 32])
def test_the_network_takes_images_of_any_size(size: int) -> None:
    network = FastCNNNetwork(10, [4, 8, 8], whitening=True)
    assert network(torch.randn(3, 3, size, size)).shape == (3, 10)


def test_convolutions_begin_as_the_identity_of_their_channels() -> None:
    block = FastCNNNetwork(10, [6], whitening=True).blocks[0]
    x = torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(block[4](x), x)
    wide = torch.randn(2, 24, 8, 8)
    torch.testing.assert_close(block[0](wide), wide[:, :6])


def test_biases_filters_and_head_have_their_own_rates_that_fall_to_the_end(tree: Path) -> None:
    model = FastCNN(widths=[8, 8], num_classes=3, lr=0.1, bias_lr=0.2, head_lr=0.4)
    trainer = _fit(model, tree, steps=4)
    filters, biases, head = trainer.optimizers[0].param_groups
    assert [p.ndim for p in filters["params"]] == [4] * 4
    assert filters["orthogonal"]
    assert [p.ndim for p in biases["params"]] == [1] * 4  # the scales are not trained
    assert not biases["orthogonal"]
    assert head["params"][0] is model.network.head.weight
    rates = [group["lr"] for group in (filters, biases, head)]
    assert rates == pytest.approx([0.025, 0.05, 0.1])  # a quarter: the last of four steps
    scales = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.all(scale == 1) for scale in scales)


def test_the_first_share_of_the_steps_sees_small_images(tree: Path) -> None:
    sizes = []

    class Watched(FastCNN):
        def training_logits(self, images: torch.Tensor) -> torch.Tensor:
            hook = self.network.register_forward_pre_hook(
                lambda module, inputs: sizes.append(inputs[0].shape[-1])
            )
            with hook:
                return super().training_logits(images)

    _fit(Watched(widths=[4], num_classes=3, small_size=20, small_share=0.5), tree, steps=6)
    assert sizes == [20, 20, 20, 32, 32, 32]


def test_the_whitening_layer_is_computed_once_and_left_alone(tree: Path) -> None:
    model = FastCNN(widths=[4], num_classes=3)
    random = model.network.whitening.weight.clone()
    _fit(model, tree, steps=1)
    computed = model.network.whitening.weight.clone()
    assert model.network.whitening.filled
    assert not torch.equal(random, computed)
    model.network.whitening.weight.mul_(2)  # a second look at the images would undo this
    _fit(model, tree, steps=3)
    assert torch.equal(model.network.whitening.weight, 2 * computed)


def test_without_whitening_the_first_layer_is_trained(tree: Path) -> None:
    model = FastCNN(widths=[4], num_classes=3, whitening=False)
    before = model.network.first.weight.detach().clone()
    trainer = _fit(model, tree, steps=2)
    assert not torch.equal(model.network.first.weight, before)
    trained = sum(len(group["params"]) for group in trainer.optimizers[0].param_groups)
    assert trained == sum(p.requires_grad for p in model.parameters())


def test_sgd_leaves_the_filters_as_they_are(tree: Path) -> None:
    trainer = _fit(FastCNN(widths=[4], num_classes=3, optimizer="sgd", lr=0.1), tree)
    assert not any(group["orthogonal"] for group in trainer.optimizers[0].param_groups)
