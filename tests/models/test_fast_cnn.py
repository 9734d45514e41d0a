"""FastCNN: its network, the rates of its parts, small images first, the fixed first layer."""

import pytest
import torch
from torch import nn

from cifar_lab.layers.whitening import Whitening
from cifar_lab.models import FastCNN, fast_cnn
from cifar_lab.models.fast_cnn import FastCNNNetwork


@pytest.mark.parametrize("size", [9, 16, 24, 32])
@pytest.mark.parametrize("whitening", [False, True])
def test_the_network_takes_images_of_any_size(size: int, whitening: bool) -> None:
    network = FastCNNNetwork(10, [4, 8, 8], whitening)
    assert network(torch.randn(3, 3, size, size)).shape == (3, 10)


def test_convolutions_begin_as_the_identity_of_their_channels() -> None:
    block = FastCNNNetwork(10, [6], whitening=False).blocks[0]
    x = torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(block[4](x), x)
    wide = torch.randn(2, 24, 8, 8)
    torch.testing.assert_close(block[0](wide), wide[:, :6])


def test_biases_filters_and_head_have_their_own_rates_that_fall_to_the_end(fit) -> None:
    model = FastCNN(widths=[8, 8], num_classes=3, lr=0.1, bias_lr=0.2, head_lr=0.4)
    trainer = fit(model, steps=4)
    filters, biases, head = trainer.optimizers[0].param_groups
    assert [p.ndim for p in filters["params"]] == [4] * 4
    assert [p.ndim for p in biases["params"]] == [1] * 4  # the scales are not trained
    assert head["params"][0] is model.network.head.weight
    rates = [group["lr"] for group in (filters, biases, head)]
    assert rates == pytest.approx([0.025, 0.05, 0.1])  # a quarter: the last of four steps
    scales = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.all(scale == 1) for scale in scales)


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_a_step_at_the_highest_rate_takes_the_same_share_off_and_muon_alone_is_orthogonal(
    fit, optimizer: str
) -> None:
    rates = {"lr": 0.1, "bias_lr": 2.0, "head_lr": 0.004}
    model = FastCNN(widths=[4], num_classes=3, optimizer=optimizer, weight_decay=0.003, **rates)
    groups = fit(model, steps=1).optimizers[0].param_groups
    shares = [group["initial_lr"] * group["weight_decay"] for group in groups]
    assert shares == pytest.approx([0.003] * 3)
    assert [group["initial_lr"] for group in groups] == list(rates.values())
    assert [group["orthogonal"] for group in groups] == [optimizer == "muon", False, False]


def test_logits_begin_near_zero() -> None:
    torch.manual_seed(0)
    network = FastCNNNetwork(10, [4, 256], whitening=False)
    assert network(torch.randn(20, 3, 32, 32)).abs().max() < 1


def test_the_first_share_of_the_steps_sees_small_images(fit) -> None:
    sizes = []

    class Watched(FastCNN):
        def training_logits(self, images: torch.Tensor) -> torch.Tensor:
            hook = self.network.register_forward_pre_hook(
                lambda module, inputs: sizes.append(inputs[0].shape[-1])
            )
            with hook:
                return super().training_logits(images)

    fit(Watched(widths=[4], num_classes=3, small_size=20, small_share=0.5), steps=6)
    assert sizes == [20, 20, 20, 32, 32, 32]


def test_the_whitening_layer_is_computed_once_and_left_alone(fit) -> None:
    model = FastCNN(widths=[4], num_classes=3)
    layer = model.network.first
    random = layer.weight.clone()
    fit(model, steps=1)
    computed = layer.weight.clone()
    assert layer.filled
    assert not torch.equal(random, computed)
    layer.weight.mul_(2)  # a second look at the images would undo this
    fit(model, steps=3)
    assert torch.equal(layer.weight, 2 * computed)


@pytest.mark.parametrize("count", [6, 69])  # 120 over 69 is nearer to 2 than to 1
def test_the_whitening_layer_is_computed_from_images_of_all_classes(
    fit, monkeypatch, count: int
) -> None:
    # The tree lists its 120 images class by class: the first of them are of one class.
    monkeypatch.setattr(fast_cnn, "WHITENING_IMAGES", count)
    seen = []
    fill = Whitening.fill

    def watched(layer: Whitening, images: torch.Tensor) -> None:
        seen.append(images)
        fill(layer, images)

    monkeypatch.setattr(Whitening, "fill", watched)
    model = FastCNN(widths=[4], num_classes=3)
    trainer = fit(model, steps=1)
    data = trainer.datamodule.image_set
    images = model.normalize(torch.from_numpy(data.train_images))
    places = [int((images == image).all((1, 2, 3)).nonzero()[0]) for image in seen[0]]
    assert data.train_labels[places].tolist() == sorted([0, 1, 2] * (count // 3))


def test_the_fast_cnn_trains_in_bf16_alone(fit) -> None:
    trainer = fit(FastCNN(widths=[4], num_classes=3), steps=1, precision="bf16-true")
    assert trainer.global_step == 1


def test_without_whitening_the_first_layer_is_trained(fit) -> None:
    model = FastCNN(widths=[4], num_classes=3, whitening=False)
    before = model.network.first.weight.detach().clone()
    trainer = fit(model, steps=2)
    assert not torch.equal(model.network.first.weight, before)
    trained = sum(len(group["params"]) for group in trainer.optimizers[0].param_groups)
    assert trained == sum(p.requires_grad for p in model.parameters())
