"""Restoring a trained model from its checkpoint: class, settings, normalization, names, weights."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cifar_lab.devices import device_kind, use_threads
from cifar_lab.errors import UserError
from cifar_lab.files import shown
from cifar_lab.models import REGISTRY
from cifar_lab.models.calibration import Calibration
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.recipes.own_model import import_model, name_of
from cifar_lab.run.checkpoint import find_checkpoint, read_checkpoint
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.summary import read_summary

COMPILED = "_orig_mod."  # stands in the names of a part that torch.compile wraps
SLACK = 4  # weights are registered again when weight normalisation takes them apart


def load_model(
    path: str | Path, accelerator: str = "auto", model: str | None = None
) -> ImageClassifier:
    """Return the model of a checkpoint in ``eval`` mode, on its device.

    Args:
        path: path of a checkpoint or of exported weights (.safetensors); the folder of a run, for
            its best checkpoint, else its last; or the name of a pretrained model.
        accelerator: "auto", "cpu", "gpu" or "mps".
        model: ``module:Class`` of the checkpoint's model if it is the user's own. A name in the
            checkpoint is never imported, since the file may come from a stranger.

    Raises:
        UserError: The file is missing or damaged, this version cannot read it, its weights are not
            finite, or the accelerator is not available.
    """
    use_threads(None)
    path = find_checkpoint(Path(path))
    checkpoint = read_checkpoint(path)
    found = _build(path, checkpoint, _class_of(path, checkpoint, model))
    found.calibration = found.calibration or _calibration_of_run(path)
    device = "cpu" if found.cpu_only else device_kind(accelerator)
    return found.eval().to(device)


def _class_of(path: Path, checkpoint: dict[str, Any], model: str | None) -> type[ImageClassifier]:
    classes = {kind.__name__: kind for kind in REGISTRY.values()}
    name = checkpoint["cifar_lab"].get("model")
    if isinstance(name, str) and name in classes:
        return classes[name]
    if model is None or model in REGISTRY:
        raise UserError(
            f"{path}: a model {shown(repr(name))}, which is not one of {', '.join(classes)}. "
            "If it is your own, name it: --model module:Class"
        )
    own = import_model(model)
    if name not in (model, name_of(own)):
        raise UserError(f"{path}: a model {shown(repr(name))}, not {model}")
    return own


def _build(
    path: Path, checkpoint: dict[str, Any], model_class: type[ImageClassifier]
) -> ImageClassifier:
    state = checkpoint["state_dict"]
    try:
        # LightningCLI adds settings of its own, such as _instantiator.
        settings = {k: v for k, v in checkpoint["hyper_parameters"].items() if k[0] != "_"}
        with _at_most(SLACK * sum(map(torch.numel, state.values()))):
            model = model_class(**settings)
        for key in [key for key in state if COMPILED in key]:
            state[key.replace(COMPILED, "")] = state.pop(key)
        model.load_state_dict(state)
        model.on_load_checkpoint(checkpoint)
    except Exception as error:  # the content of the file decides which
        reason = shown(" ".join(str(error).split("\n")[:2]) or type(error).__name__, longest=300)
        name = model_class.__name__
        raise UserError(f"{path}: does not fit this version's {name} ({reason})") from error
    names, classes = len(model.class_names), model.num_classes
    if names not in (0, classes):
        raise UserError(f"{path}: altered ({names} names for {classes} classes)")
    state = model.state_dict()
    wrong = [name for name in state if not torch.isfinite(state[name]).all()]
    if wrong:
        raise UserError(f"{path}: weights that are not finite: {', '.join(wrong)}")
    return model


def _calibration_of_run(path: Path) -> Calibration | None:
    """Return the calibration of the best checkpoint of a run, which its summary holds."""
    folder = RunFolder.at(path.absolute().parent.parent)
    if path.absolute() != folder.best_checkpoint:
        return None
    with contextlib.suppress(TypeError, ValueError):  # the summary is missing or damaged
        found = read_summary(folder.summary).get("calibration")  # not there in older ones
        return Calibration(**found) if found else None
    return None


@contextlib.contextmanager
def _at_most(values: int) -> Iterator[None]:
    """Refuse to build a model with more parameters than this, before they are initialised."""

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal values
        values -= parameter.numel()
        if values < 0:
            raise ValueError("its settings ask for more weights than the file has")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
