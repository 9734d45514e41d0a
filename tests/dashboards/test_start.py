"""What is shown before training: every torch network as a graph, and texts as Markdown."""

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.dashboards.start import add_graph, table
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


def test_a_network_without_a_graph_says_why_in_a_line(capsys) -> None:
    failed = "tracing the network failed (Tracing failed sanity checks!)"
    with SummaryWriter("graph") as writer:
        assert add_graph(writer, NumpyMLP()) == "the network computes outside torch"
        assert add_graph(writer, BatchNormMLP(batchnorm="manual")) == failed
    assert capsys.readouterr() == ("", "")


def test_a_text_keeps_to_its_cell() -> None:
    lines = table({"command": "a | b\nc", "seed": 0}).splitlines()
    assert lines == ["| what | value |", "|---|---|", "| command | a \\| b c |", "| seed | 0 |"]
