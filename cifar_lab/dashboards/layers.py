"""The layers of a network: their names, norms, and the histograms of their weights.

A layer is a module with parameters of its own. Its norm is the Euclidean norm of all of them; that
of its gradients is taken before any clipping.
"""

from collections import Counter
from collections.abc import Mapping

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.internals import unscales_gradients
from cifar_lab.models.classifier import ImageClassifier

KINDS = {"Linear": "linear", "Conv": "conv", "BatchNorm": "bn"}  # by a part of a class's name
BINS = 64  # of a histogram; TensorBoard shows about 30


def parameter_names(network: nn.Module) -> dict[str, str]:
    """Return names such as ``linear1.weight`` by the names that ``named_parameters`` gives.

    The layers of a kind are numbered from 1, in NumPy as in torch, so that TensorBoard lays the
    curves of similar networks over each other.
    """
    counts: Counter[str] = Counter()
    layers: dict[str, str] = {}  # by the path of the module
    names = {}
    for name, _ in network.named_parameters():
        path, _, own = name.partition(".parametrizations.")  # torch's; they belong to the layer
        if not own:
            path, _, own = name.rpartition(".")
        if path not in layers:
            of_class = type(network.get_submodule(path)).__name__
            kinds = (short for part, short in KINDS.items() if part in of_class)
            kind = next(kinds, of_class.lower())
            counts[kind] += 1
            layers[path] = f"{kind}{counts[kind]}"
        names[name] = f"{layers[path]}.{own}"
    return names


def unscaled_gradients(
    trainer: Trainer, model: ImageClassifier, optimizer: Optimizer
) -> dict[str, Tensor]:
    """Return the gradients of the model's parameters, without the loss scale of ``16-mixed``.

    Call it from ``on_before_optimizer_step``. Lightning has divided by the scale there, unless the
    optimizer does it.
    """
    gradients = model.gradients()
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not unscales_gradients(optimizer):
        return gradients
    scale = float(scaler.get_scale())
    return {name: gradient / scale for name, gradient in gradients.items()}


def layer_norms(network: nn.Module, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``grad_norm/<layer>`` and ``weight_norm/<layer>`` as tensors () on the device.

    Gradients are named like the network's parameters; some may be missing.
    """
    names = parameter_names(network)
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    layers: dict[str, list[Tensor]] = {}
    for group, tensors in (("grad_norm", gradients), ("weight_norm", weights)):
        for name, tensor in tensors.items():
            layer = names[name].partition(".")[0]
            layers.setdefault(f"{group}/{layer}", []).append(tensor)
    return {tag: get_total_norm(members) for tag, members in layers.items()}


def read_norms(norms: Mapping[str, Tensor]) -> dict[str, float]:
    """Return norms as numbers, which are copied from the device together."""
    values = torch.stack([norm.float() for norm in norms.values()])
    return dict(zip(norms, values.tolist(), strict=True))


def write_histograms(writer: SummaryWriter, network: nn.Module, step: int) -> None:
    """Write ``weights/<layer>.<parameter>``, a histogram of each parameter that is finite.

    It is counted on the device. ``SummaryWriter.add_histogram`` copies all weights to the CPU and
    takes twice as long.
    """
    for name, label in parameter_names(network).items():
        values = network.get_parameter(name).detach().flatten().float()
        if not values.numel() or not values.isfinite().all():
            continue
        low, high = (bound.item() for bound in values.aminmax())
        if low == high:
            margin = 1e-3 * max(abs(low), 1e-3)
            low, high = low - margin, high + margin
        writer.add_histogram_raw(
            f"weights/{label}",
            min=low,
            max=high,
            num=values.numel(),
            sum=values.sum().item(),
            sum_squares=values.dot(values).item(),
            bucket_limits=torch.linspace(low, high, BINS + 1)[1:].tolist(),
            bucket_counts=values.histc(BINS, low, high).tolist(),
            global_step=step,
        )
