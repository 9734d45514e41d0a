"""The graph: every torch network has one, and drawing it changes nothing."""

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.dashboards.graph import add_graph
from cifar_lab.models import CNN, MLP, BatchNormMLP, DeepMLP, NumpyMLP
from cifar_lab.models.classifier import ImageClassifier


@pytest.mark.parametrize("model", [MLP(), DeepMLP(), CNN()], ids=["mlp", "deep_mlp", "cnn"])
def test_a_torch_network_is_drawn_and_left_as_it_was(model: ImageClassifier) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    with SummaryWriter("graph") as writer:
        assert add_graph(writer, model) is None
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_network_outside_torch_says_that_it_has_none() -> None:
    with SummaryWriter("graph") as writer:
        assert add_graph(writer, NumpyMLP()) == "the network computes outside torch"


def test_a_network_that_cannot_be_traced_says_why_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SummaryWriter("graph") as writer:
        reason = add_graph(writer, BatchNormMLP(batchnorm="manual"))
    assert reason == "tracing the network failed (Tracing failed sanity checks!)"
    assert capsys.readouterr() == ("", "")
