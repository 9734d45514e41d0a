"""A trained model from its checkpoint alone: class, settings, class names, normalisation, weights.

Files are not trusted: they are read with ``weights_only=True``, which runs no code, and whatever is
wrong with one is said in a line or two.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from cifar_lab.errors import UserError
from cifar_lab.models import REGISTRY
from cifar_lab.models.classifier import CHECKPOINT_FORMAT, ImageClassifier
from cifar_lab.training.trainer import device_kind


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


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means; of a run's folder the best, else the last.

    Raises:
        UserError: there is none.
    """
    path = path.expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        for folder in (path, path / "checkpoints"):
            for name in ("best.ckpt", "last.ckpt"):
                if (folder / name).is_file():
                    return folder / name
        raise UserError(f"{path}: no checkpoints/best.ckpt or last.ckpt in this folder")
    raise UserError(f"{path}: no such checkpoint")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this package, on the CPU.

    Raises:
        UserError: it cannot be read, is not of this package, or of another version of it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint that is safe to read: it holds more than tensors and plain "
            "values, or is damaged"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path}: damaged or not a checkpoint ({path.stat().st_size:,} bytes)"
        ) from error
    _check_origin(path, content)
    return content


def _check_origin(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path}: not a checkpoint of cifar_lab (it has no state_dict)")
    origin = content.get("cifar_lab")
    if not isinstance(origin, dict):
        raise UserError(
            f"{path}: not a checkpoint of cifar_lab, or one from before its format {1}; "
            "train the model again with scripts/fit.py"
        )
    if origin.get("format") != CHECKPOINT_FORMAT:
        raise UserError(
            f"{path}: checkpoint format {origin.get('format')} of cifar_lab "
            f"{origin.get('version')}; this version reads format {CHECKPOINT_FORMAT}"
        )


def _build(path: Path, checkpoint: dict[str, Any]) -> ImageClassifier:
    classes = {model.__name__: model for model in REGISTRY.values()}
    name = checkpoint["cifar_lab"].get("model")
    if name not in classes:
        raise UserError(f"{path}: a model {name!r}, which is none of {', '.join(classes)}")
    try:
        model = classes[name](**checkpoint["hyper_parameters"])
        model.load_state_dict(checkpoint["state_dict"])
        model.on_load_checkpoint(checkpoint)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path}: does not fit this version's {name} ({reason})") from error
    wrong = [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if wrong:
        raise UserError(f"{path}: weights that are not finite: {', '.join(wrong)}")
    return model
