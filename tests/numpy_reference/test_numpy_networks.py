"""Whole networks: NumPy and PyTorch from the same weights and batches, in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cifar_lab.numpy_reference.cross_entropy import SoftmaxCrossEntropy
from cifar_lab.numpy_reference.network import CNN, MLP
from cifar_lab.numpy_reference.optimizer import SGD

WIDTH = 2


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch to one thread: these networks are too small to share out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def report_mlp():
    return nn.Sequential(nn.Linear(3072, 100), nn.ReLU(), nn.Linear(100, 10)).double()


def report_cnn(width):
    """Return the CNN of the report as its table has it, `width` in the place of 64."""

    def conv(c, k):
        return nn.Conv2d(c, k, 3, 1, 1), nn.BatchNorm2d(k), nn.ReLU()

    w = width
    return nn.Sequential(
        *(*conv(3, w), nn.MaxPool2d(3, 2, 1)),
        *(*conv(w, 2 * w), nn.MaxPool2d(3, 2, 1)),
        *(*conv(2 * w, 4 * w), *conv(4 * w, 4 * w), nn.MaxPool2d(3, 2, 1)),
        *(*conv(4 * w, 8 * w), *conv(8 * w, 8 * w), nn.MaxPool2d(3, 2, 1)),
        *(*conv(8 * w, 8 * w), *conv(8 * w, 8 * w), nn.MaxPool2d(3, 2, 1)),
        *(nn.AvgPool2d(1, 1, 0), nn.Flatten(), nn.Linear(8 * w, 10)),
    ).double()


def pairs(network, torch_network):
    """Yield name, layer, key and torch parameter for each parameter of both networks."""
    keys = {"gamma": "weight", "beta": "bias"}
    for name, layer in network:
        for key in layer.params:
            yield name, layer, key, torch_network.get_parameter(f"{name}.{keys.get(key, key)}")


def copy_to_torch(network, torch_network):
    for _, layer, key, tensor in pairs(network, torch_network):
        tensor.data.copy_(torch.from_numpy(layer.params[key]))


def copy_to_numpy(torch_network, network):
    for _, layer, key, tensor in pairs(network, torch_network):
        layer.params[key][...] = tensor.detach().numpy()


def losses(network, torch_network, x, targets):
    """Run both forward and backward; return both losses."""
    criterion = SoftmaxCrossEntropy()
    ours = criterion.forward(network.forward(x), targets)
    network.backward(criterion.backward())
    torch_network.zero_grad()
    theirs = cross_entropy(torch_network(torch.tensor(x)), torch.tensor(targets))
    theirs.backward()
    return ours, theirs.item()


def batches(n_steps, n_samples=20):
    """Yield images, raw pixels less their mean as in the report, of ten noisy prototypes.

    A fifth of the targets is random, so the loss stays well above 0, as on CIFAR-10. Near 0 the
    gradient p − t cancels, and two right answers differ by more than their rounding.
    """
    rng = np.random.default_rng(0)
    prototypes = rng.normal(0, 15, (10, 3072))
    for _ in range(n_steps):
        labels = rng.integers(0, 10, n_samples)
        images = prototypes[labels] + rng.normal(0, 60, (n_samples, 3072))
        is_random = rng.random(n_samples) < 0.2
        yield images, np.where(is_random, rng.integers(0, 10, n_samples), labels)


def assert_relative(a, b, tolerance):
    assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def test_mlp_has_the_losses_of_torch_for_300_steps_from_the_report_initialisation():
    network, torch_network = MLP(3072, [100], 10, rng=0), report_mlp()
    copy_to_torch(network, torch_network)
    sgd, torch_sgd = SGD(network, lr=2e-3), torch.optim.SGD(torch_network.parameters(), lr=2e-3)
    curve = []
    for x, targets in batches(300):
        curve.append(losses(network, torch_network, x, targets))
        sgd.step()
        torch_sgd.step()
    ours, theirs = np.transpose(curve)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert ours[0] > 2.3 > 1.5 > ours[-50:].mean()  # it has learned: the steps were not idle
    for _, layer, key, tensor in pairs(network, torch_network):
        assert_relative(layer.params[key], tensor.detach().numpy(), 1e-9)


def test_mlp_has_the_gradients_of_torch_at_each_step_from_torch_initialisation():
    torch.manual_seed(0)
    network, torch_network = MLP(3072, [100], 10, rng=0), report_mlp()
    torch_sgd = torch.optim.SGD(torch_network.parameters(), lr=2e-3)
    peak = 0.0
    for x, targets in batches(100):
        copy_to_numpy(torch_network, network)  # the early peak is chaotic: start afresh each step
        ours, theirs = losses(network, torch_network, x, targets)
        assert ours == pytest.approx(theirs, rel=1e-10)
        for _, layer, key, tensor in pairs(network, torch_network):
            assert_relative(layer.grads[key], tensor.grad.numpy(), 1e-10)
        torch_sgd.step()
        peak = max(peak, ours)
    assert peak > 10  # the peak is there


def test_cnn_has_the_layers_of_the_report_and_the_loss_and_every_gradient_of_torch():
    rng = np.random.default_rng(0)
    network, torch_network = CNN(WIDTH, rng=0), report_cnn(WIDTH)
    for _, layer in network:  # a gamma of 1 and a beta of 0 would hide mistakes
        for key in layer.params.keys() & {"gamma", "beta"}:
            layer.params[key] = rng.uniform(0.5, 1.5, layer.params[key].shape)
    copy_to_torch(network, torch_network)
    x, targets = rng.normal(size=(6, 3, 32, 32)), rng.integers(0, 10, 6)
    ours, theirs = losses(network, torch_network, x, targets)
    parameters = list(pairs(network, torch_network))
    assert len(network.layers) == len(torch_network)
    assert len(parameters) == len(list(torch_network.parameters()))
    assert ours == pytest.approx(theirs, rel=1e-10)
    for name, layer, key, tensor in parameters:
        assert layer.params[key].shape == tensor.shape, f"{name}.{key}"
        is_conv_bias = key == "bias" and layer.params["weight"].ndim == 4
        # Batch normalization takes a convolution's bias out again: its gradient is zero but for
        # rounding, so it is measured by the gradient of the weight beside it.
        like = layer.grads["weight" if is_conv_bias else key]
        error = np.linalg.norm(layer.grads[key] - tensor.grad.numpy())
        assert error <= 1e-10 * np.linalg.norm(like), f"{name}.{key}"
