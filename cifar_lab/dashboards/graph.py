"""The page "Graphs": the network as TensorBoard draws it, where it can be traced."""

from __future__ import annotations

import copy
import warnings
from contextlib import redirect_stdout
from io import StringIO

import torch
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import first_line
from cifar_lab.models.classifier import ImageClassifier


def add_graph(writer: SummaryWriter, model: ImageClassifier) -> str | None:
    """Writes the graph of the model's network.

    A copy of it is traced, in evaluation, so that no running statistic and no random number of the
    model changes.

    Batch normalization by hand does not trace: its checks make each trace another one.

    Returns:
        Why there is no graph, in a line, or None where there is one.
    """
    if model.cpu_only:
        return "the network computes outside torch"
    network = copy.deepcopy(model.network).cpu().float().eval()
    # torch.jit, which SummaryWriter uses, is deprecated, warns of our checks and prints errors.
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        try:
            writer.add_graph(network, torch.zeros(2, *IMAGE_SHAPE))
        except Exception as error:  # a picture is no reason to end a run
            return f"tracing the network failed ({first_line(error)})"
    return None
