"""Norms of layers: against their definition, for torch and NumPy networks."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from cifar_lab.dashboards.norms import layer_norms, read_norms, unscaled_gradients
from cifar_lab.models import MLP, NumpyMLP

IMAGES = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)


def test_the_norm_of_a_layer_is_that_of_all_its_numbers() -> None:
    model = MLP(hidden_units=(5,))
    F.cross_entropy(model(IMAGES), torch.arange(4)).backward()
    norms = read_norms(layer_norms(model.network, model.gradients()))
    weight, bias = model.network[1].parameters()
    for name, parts in (("grad", (weight.grad, bias.grad)), ("weight", (weight, bias))):
        expected = torch.cat([part.flatten() for part in parts]).norm().item()
        assert norms[f"{name}_norm/1.Linear"] == pytest.approx(expected, rel=1e-5)
    assert set(norms) == {f"{k}_norm/{n}.Linear" for k in ("grad", "weight") for n in (1, 3)}


def test_a_numpy_network_has_norms_too() -> None:
    model = NumpyMLP(hidden_units=(5,))
    logits = model(IMAGES)
    model.criterion.forward(logits.numpy(), torch.arange(4).numpy())
    model.numpy_network.backward(model.criterion.backward())
    norms = read_norms(layer_norms(model.network, model.gradients()))
    assert set(norms) == {f"{k}_norm/linear{n}" for k in ("grad", "weight") for n in (0, 2)}
    gradient = model.numpy_network.layers[2].grads
    expected = (gradient["weight"] ** 2).sum() + (gradient["bias"] ** 2).sum()
    assert norms["grad_norm/linear2"] == pytest.approx(float(expected**0.5), rel=1e-5)


@pytest.mark.parametrize(("unscales", "value"), [(True, 1 / 8), (False, 1.0)])
def test_gradients_of_16_mixed_are_those_before_they_were_scaled(unscales, value: float) -> None:
    model = MLP(hidden_units=(5,))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    scaler = SimpleNamespace(get_scale=lambda: 8.0)
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler))
    optimizer = SimpleNamespace(_step_supports_amp_scaling=unscales)
    for gradient in unscaled_gradients(trainer, model, optimizer).values():
        assert gradient.unique().tolist() == [value]
