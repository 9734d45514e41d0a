"""SGD and Adam against torch.optim, from the same gradients."""

import numpy as np
import pytest
import torch

from cifar_lab.course import LinearModule, ReLUModule
from cifar_lab.numpy_reference.network import MLP, Sequential
from cifar_lab.numpy_reference.optimizer import SGD, Adam

OPTIMIZERS = {
    "sgd": (SGD, torch.optim.SGD, {}),
    "momentum": (SGD, torch.optim.SGD, {"momentum": 0.9}),
    "adam": (Adam, torch.optim.Adam, {}),
    "adam with its own settings": (Adam, torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_takes_the_steps_of_torch_over_a_changing_rate(name):
    ours_class, theirs_class, settings = OPTIMIZERS[name]
    rng, network = np.random.default_rng(0), MLP(4, [3], 2, std=1.0, rng=0)
    # The step has to write into these arrays themselves.
    arrays = [array for _, layer in network for array in layer.params.values()]
    tensors = [torch.tensor(array) for array in arrays]
    ours = ours_class(network, lr=0.1, **settings)
    theirs = theirs_class(tensors, lr=0.1, **settings)
    for step in range(30):
        ours.lr = theirs.param_groups[0]["lr"] = 0.1 / (1 + step // 10)
        for _, layer in network:
            layer.grads = {key: rng.normal(size=p.shape) for key, p in layer.params.items()}
        grads = [grad for _, layer in network for grad in layer.grads.values()]
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(grad)
        ours.step()
        theirs.step()
    for array, tensor in zip(arrays, tensors, strict=True):
        np.testing.assert_allclose(array, tensor, rtol=1e-10)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_layer_of_ones_own_needs_no_params(optimizer):
    network = Sequential([LinearModule(4, 3), ReLUModule()])  # which has neither params nor grads
    network.layers[0].params["bias"] += 1  # so that ReLU lets gradients through
    before = network.layers[0].params["weight"].copy()
    assert [name for name, _ in network] == ["0"]
    network.train()
    network.backward(network.forward(np.ones((2, 4))) + 1)
    optimizer(network, lr=0.1).step()
    assert np.any(network.layers[0].params["weight"] != before)
