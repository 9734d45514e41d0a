"""What the gradient check leaves out: running statistics, masks, starts, what is read when."""

import numpy as np
import pytest
import torch
from torch import nn

from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.network import CNN, MLP
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear


@pytest.mark.parametrize(("shape", "torch_class"), [
    ((6, 3), nn.BatchNorm1d), ((4, 3, 5, 2), nn.BatchNorm2d),
])  # fmt: skip
def test_batch_norm_tracks_and_uses_statistics_as_torch_does(shape, torch_class):
    rng = np.random.default_rng(0)
    ours, theirs = BatchNorm(3), torch_class(3, dtype=torch.float64)
    for step in range(6):
        if step == 5:
            ours.training = theirs.eval().training
        x = rng.normal(2, 3, size=shape)
        expected = theirs(torch.tensor(x)).detach()
        np.testing.assert_allclose(ours.forward(x), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.running_mean, theirs.running_mean, rtol=1e-12)
    np.testing.assert_allclose(ours.running_var, theirs.running_var, rtol=1e-12)


def test_dropout_keeps_the_mean_and_drops_the_share_it_should():
    y = Dropout(0.25, rng=0).forward(np.ones((200, 500)))
    assert set(np.unique(y)) == {0, 1 / 0.75}
    # Standard deviation of the share dropped: sqrt(0.25 * 0.75 / 1e5) = 0.0014.
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.006)


def test_dropout_draws_a_fresh_mask_each_time_and_none_in_evaluation():
    layer, x = Dropout(0.5, rng=0), np.ones((4, 50))
    assert (layer.forward(x) != layer.forward(x)).any()
    layer.training = False
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)


def test_parameters_are_read_anew_at_each_call():
    layer, x = Linear(2, 2, rng=0), np.ones((1, 2))
    layer.params["weight"] += 1  # changed in place
    np.testing.assert_allclose(layer.forward(x), [[2, 2]], atol=1e-2)
    layer.params["weight"] = np.full((2, 2), 3.0)  # replaced
    np.testing.assert_array_equal(layer.forward(x), [[6, 6]])
    np.testing.assert_array_equal(layer.backward(x), [[6, 6]])


def test_report_initialisation_is_small_and_normal_with_zero_biases():
    first, last = (layer.params for _, layer in MLP(3072, [100], 10, rng=0))
    assert first["weight"].shape == (100, 3072)
    assert last["weight"].shape == (10, 100)
    assert first["weight"].std() == pytest.approx(1e-4, rel=0.01)
    np.testing.assert_array_equal(first["bias"], np.zeros(100))


def test_default_initialisation_of_torch_has_its_bounds():
    linear, conv = Linear(100, 2000, std=None, rng=0), Conv3x3(4, 2000, rng=0)
    for params, bound in ((linear.params, 1 / 10), (conv.params, 1 / 6)):
        for name in ("weight", "bias"):
            assert np.abs(params[name]).max() == pytest.approx(bound, rel=0.01)
            assert params[name].std() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_he_initialisation_has_its_deviation_and_zero_biases():
    for layer, std in (
        (Linear(200, 2000, std="he", rng=0), 0.1),
        (Conv3x3(2, 2000, std="he"), 1 / 3),
    ):
        assert layer.params["weight"].std() == pytest.approx(std, rel=0.02)
        assert not layer.params["bias"].any()


def test_weight_norm_starts_as_the_linear_layer_would():
    x = np.random.default_rng(0).normal(size=(4, 5))
    ours, linear = (layer(5, 3, std=None, rng=7) for layer in (WeightNormLinear, Linear))
    np.testing.assert_allclose(ours.forward(x), linear.forward(x), rtol=1e-12)


def test_the_numbers_at_the_start_depend_on_the_seed_and_the_layer():
    one, same, other = (MLP(4, [4, 4], 2, rng=seed).layers for seed in (0, 0, 1))
    np.testing.assert_array_equal(one[0].params["weight"], same[0].params["weight"])
    assert (one[0].params["weight"] != other[0].params["weight"]).all()
    assert (one[0].params["weight"] != one[2].params["weight"]).all()


def test_mlp_has_the_parts_asked_for_and_ends_in_a_plain_linear_layer():
    network = MLP(5, [4, 3], 2, batch_norm=True, weight_norm=True, dropout=0.5)
    hidden = ["WeightNormLinear", "BatchNorm", "ReLU", "Dropout"]
    assert [type(layer).__name__ for layer in network.layers] == [*hidden, *hidden, "Linear"]


def test_train_and_evaluation_reach_every_layer():
    network = CNN(1)
    network.train(False)
    assert not any(layer.training for layer in network.layers)
    network.train()
    assert all(layer.training for layer in network.layers)
