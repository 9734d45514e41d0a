"""What TensorBoard shows of a run before it trains: settings, layout, graph and texts.

The layout is that of the page "Custom scalars". Its tags are regular expressions, which match from
the start of a tag and apply to all selected runs. The selection decides which figure of the report
a chart shows, so one layout serves all runs.
"""

import copy
import textwrap
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO

import torch
from pytorch_lightning import Trainer
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.dashboards.hparams import start_summaries
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import first_line
from cifar_lab.files import as_utf8
from cifar_lab.internals import write_summaries
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.plan import Plan
from cifar_lab.run.summary import describe_data, describe_device, versions

LAYOUT = {
    "Report figures": {
        # Without a validation split, evaluations are those of the test set.
        "Accuracy (figures 1, 3, 5, 7)": ("Multiline", ["acc/(test|val)$"]),
        "Training loss after the start (figures 2, 4, 6, 8)": (
            "Multiline",
            ["loss_after_start/train$"],
        ),
    },
    "Training against evaluation": {
        "Accuracy": ("Multiline", ["acc/(train|val|test)$"]),
        "Loss after the start": ("Multiline", ["loss_after_start/(train|val|test)$"]),
    },
}


def write_start(
    writer: SummaryWriter,
    plan: Plan,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    trainer: Trainer,
    command: str,
    since: int | None,
) -> None:
    """Write settings, layout, graph and texts.

    ``since`` is the step of a run that is resumed and has all this; only the texts, which may have
    changed, are then written again.
    """
    environment = {**versions(), **describe_device(trainer), **describe_data(data)}
    texts = {
        "configuration": textwrap.indent(plan.as_yaml().rstrip(), "    "),  # verbatim
        "environment": table({**environment, "command": command}),
    }
    if since is None:
        known = {"val_size": data.sizes["val"], "data": data.image_set.source}
        write_summaries(writer, *start_summaries(plan, known))
        writer.add_custom_scalars(LAYOUT)
        if plan.settings.dashboard == "full" and (reason := add_graph(writer, model)):
            texts["graph"] = f"No graph: {reason}."
    for title, text in texts.items():
        writer.add_text(f"run/{title}", as_utf8(text), since or 0)


def add_graph(writer: SummaryWriter, model: ImageClassifier) -> str | None:
    """Write the graph of a network, or return the reason in a line why there is none.

    A copy of the network is traced in evaluation mode, which changes no running statistic and no
    random number of the model. Batch normalization by hand cannot be traced: its checks differ
    from one trace to the next.
    """
    if model.cpu_only:
        return "the network computes outside torch"
    network = copy.deepcopy(model.network).cpu().float().eval()
    # SummaryWriter traces by torch.jit, which is deprecated, warns of checks and prints errors.
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        try:
            writer.add_graph(network, torch.zeros(2, *IMAGE_SHAPE))
        except Exception as error:  # a missing picture does not end a run
            return f"tracing the network failed ({first_line(error)})"
    return None


def table(rows: Mapping[str, object]) -> str:
    """Return a Markdown table of names and values."""
    lines = ["| what | value |", "|---|---|"]
    for name, value in rows.items():
        cell = " ".join(str(value).split()).replace("|", "\\|")
        lines.append(f"| {name} | {cell} |")
    return "\n".join(lines)
