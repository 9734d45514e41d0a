"""A trained model from its checkpoint alone: class, settings, class names, normalisation, weights.

What is wrong with a checkpoint is said in a line or two; checkpoint_file.py reads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cifar_lab.checkpoint_file import find_checkpoint, read_checkpoint
from cifar_lab.devices import device_kind
from cifar_lab.errors import UserError
from cifar_lab.files import shown
from cifar_lab.models import REGISTRY
from cifar_lab.models.classifier import ImageClassifier

COMPILED = "_orig_mod."  # in the names of a part that torch.compile wraps
SLACK = 4  # a weight is registered again when weight normalisation takes it apart


def load_classifier(path: str | Path, accelerator: str = "auto") -> ImageClassifier:
    """The model of a checkpoint, ready to evaluate: ``eval`` mode, on its device.

    Args:
        path: of a checkpoint, or the folder of a run: its best checkpoint, else its last.
        accelerator: "auto", "cpu", "gpu" or "mps".

    Raises:
        UserError: the file is missing, damaged, not of this package or of another version of it,
            or its weights are not finite; the accelerator is not there.
    """
    path = find_checkpoint(Path(path))
    checkpoint = read_checkpoint(path)
    model = _build(path, checkpoint)
    device = "cpu" if model.cpu_only else device_kind(accelerator)
    return model.eval().to(device)


def _build(path: Path, checkpoint: dict[str, Any]) -> ImageClassifier:
    classes = {model.__name__: model for model in REGISTRY.values()}
    name = checkpoint["cifar_lab"].get("model")
    if not isinstance(name, str) or name not in classes:
        known = ", ".join(classes)
        raise UserError(f"{path}: a model {shown(repr(name))}, which is none of {known}")
    try:
        # LightningCLI adds names of its own, such as _instantiator.
        settings = {k: v for k, v in checkpoint["hyper_parameters"].items() if k[0] != "_"}
        with _at_most(SLACK * sum(map(torch.numel, checkpoint["state_dict"].values()))):
            model = classes[name](**settings)
        state = checkpoint["state_dict"]
        for key in [key for key in state if COMPILED in key]:
            state[key.replace(COMPILED, "")] = state.pop(key)
        model.load_state_dict(state)
        model.on_load_checkpoint(checkpoint)
    except Exception as error:  # the content decides which
        reason = shown(" ".join(str(error).split("\n")[:2]) or type(error).__name__, longest=300)
        raise UserError(f"{path}: does not fit this version's {name} ({reason})") from error
    if len(model.class_names) not in (0, model.num_classes):
        raise UserError(
            f"{path}: altered ({len(model.class_names)} names of {model.num_classes} classes)"
        )
    _check_finite(path, model)
    return model


@contextlib.contextmanager
def _at_most(values: int) -> Iterator[None]:
    """Ends the making of a model whose parameters hold more values, before they are drawn."""
    left = values

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal left
        left -= parameter.numel()
        if left < 0:
            raise ValueError("its settings ask for more weights than the file has")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _check_finite(path: Path, model: ImageClassifier) -> None:
    wrong = [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        raise UserError(f"{path}: weights that are not finite: {', '.join(wrong)}")
