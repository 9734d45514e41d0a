"""Names, norms and histograms of layers: the same for torch and NumPy networks."""

from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.dashboards.layers import (
    layer_norms,
    parameter_names,
    read_norms,
    unscaled_gradients,
    write_histograms,
)
from cifar_lab.models import CNN, MLP, BatchNormMLP, DeepMLP, NumpyMLP

IMAGES = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("model", [MLP, NumpyMLP, DeepMLP], ids=lambda kind: kind.__name__)
def test_layers_of_torch_and_of_numpy_have_the_same_names(model: type) -> None:
    names = parameter_names(model(hidden_units=(5, 4)).network)
    assert {name.partition(".")[0] for name in names.values()} == {"linear1", "linear2", "linear3"}
    assert {"linear1.bias", "linear3.weight"} <= set(names.values())


def test_layers_are_numbered_by_their_kind() -> None:
    names = list(parameter_names(CNN().network).values())
    assert names[:4] == ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"]
    assert names[-1] == "linear1.bias"
    assert len(set(names)) == len(names) == len(list(CNN().network.parameters()))
    assert "bn1.weight" in parameter_names(BatchNormMLP().network).values()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_histogram_counts_all_weights_that_are_finite() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    nn.init.zeros_(network[0].bias)
    nn.init.constant_(network[1].bias, torch.nan)
    with SummaryWriter("histograms") as writer:
        write_histograms(writer, network, 7)
    events = EventAccumulator("histograms").Reload()
    tags = {"weights/linear1.weight", "weights/linear1.bias", "weights/linear2.weight"}
    assert set(events.Tags()["histograms"]) == tags
    (event,) = events.Histograms("weights/linear1.weight")
    shown, weight = event.histogram_value, network[0].weight
    assert (event.step, shown.num, sum(shown.bucket)) == (7, 6, 6)
    assert (shown.min, shown.max) == pytest.approx((weight.min().item(), weight.max().item()))
    assert shown.sum == pytest.approx(weight.sum().item(), abs=1e-6)
    below = sum(shown.bucket[:32])  # the lower half of the range
    assert below == (weight < (weight.min() + weight.max()) / 2).sum()
    (event,) = events.Histograms("weights/linear1.bias")  # all alike
    assert sum(event.histogram_value.bucket) == 2
    assert event.histogram_value.min < 0 < event.histogram_value.max


def test_the_norm_of_a_layer_is_that_of_all_its_numbers() -> None:
    model = MLP(hidden_units=(5,))
    F.cross_entropy(model(IMAGES), torch.arange(4)).backward()
    norms = read_norms(layer_norms(model.network, model.gradients()))
    weight, bias = model.network[1].parameters()
    for name, parts in (("grad", (weight.grad, bias.grad)), ("weight", (weight, bias))):
        expected = torch.cat([part.flatten() for part in parts]).norm().item()
        assert norms[f"{name}_norm/linear1"] == pytest.approx(expected, rel=1e-5)
    assert set(norms) == {f"{k}_norm/linear{n}" for k in ("grad", "weight") for n in (1, 2)}


def test_a_numpy_network_has_norms_too() -> None:
    model = NumpyMLP(hidden_units=(5,))
    logits = model(IMAGES)
    model.criterion.forward(logits.numpy(), torch.arange(4).numpy())
    model.numpy_network.backward(model.criterion.backward())
    norms = read_norms(layer_norms(model.network, model.gradients()))
    assert set(norms) == {f"{k}_norm/linear{n}" for k in ("grad", "weight") for n in (1, 2)}
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
