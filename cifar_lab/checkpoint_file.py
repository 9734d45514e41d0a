"""A checkpoint file, found and read without trust in it.

It is read with ``weights_only=True``, which runs no code; what is wrong with it is said in a line
or two, before its content takes more memory than the file has bytes.
"""

from __future__ import annotations

import pickle
import zipfile
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.files import check_file, shown
from cifar_lab.models.classifier import CHECKPOINT_FORMAT

FILE_LIMIT = 2**32  # bytes; the largest model of the registry has 0.1 GB with its optimizer
PLAIN = (str, int, float)  # what settings are, or lists of
FACTS = {"source": str, "fingerprint": str, "val_size": int, "split_seed": int}  # of its data


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means; of a run's folder the best, else the last.

    Raises:
        UserError: there is none.
    """
    try:
        return _find(path.expanduser())
    except (OSError, RuntimeError) as error:  # may not be looked at, no path, the home of nobody
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(path)}: cannot be read ({reason})") from error


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        for folder in (path, path / "checkpoints"):
            for name in ("best.ckpt", "last.ckpt"):
                if (folder / name).is_file():
                    return folder / name
        raise UserError(f"{path}: no checkpoints/best.ckpt or last.ckpt in this folder")
    if path.exists():
        raise UserError(f"{path}: not a file, but a pipe or device")
    raise UserError(f"{path}: no such checkpoint")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this package, on the CPU.

    Raises:
        UserError: it cannot be read, is not of this package, or of another version of it.
    """
    try:
        size = _check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint that is safe to read: it holds more than tensors and plain "
            "values, or is damaged"
        ) from error
    except Exception as error:  # what a damaged file makes torch raise is of every kind
        raise UserError(f"{path}: damaged or not a checkpoint") from error
    _check_origin(path, content)
    _check_weights(path, content, size)
    return content


def _check_zip(path: Path) -> int:
    """Refuses what is no whole zip file as torch writes them; gives its size in bytes.

    They are not compressed; one that is could take a thousand times its size of memory. Torch looks
    neither at the checksums, so that an altered weight would pass, nor into a part that is marked
    as a folder, whose weights would then be what the memory held before.
    """
    size = check_file(path, FILE_LIMIT)
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: damaged or not a checkpoint ({size:,} bytes)")
    with zipfile.ZipFile(path) as file:
        parts = file.infolist()
        if sum(part.file_size for part in parts) > size:
            raise UserError(f"{path}: not a checkpoint that is safe to read: it is compressed")
        odd = next((part.filename for part in parts if part.external_attr), None)
        if broken := odd or file.testzip():
            raise UserError(f"{path}: damaged ({shown(broken)} inside is not as it was written)")
    return size


def _check_origin(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path}: not a checkpoint of cifar_lab (it has no state_dict)")
    origin = content.get("cifar_lab")
    if not isinstance(origin, dict):
        raise UserError(
            f"{path}: not a checkpoint of cifar_lab, or one from before its format 1; "
            "train the model again with scripts/fit.py"
        )
    found = origin.get("format")
    if found != CHECKPOINT_FORMAT:
        newer = isinstance(found, int) and found > CHECKPOINT_FORMAT
        raise UserError(
            f"{path}: checkpoint format {shown(found)} of cifar_lab "
            f"{shown(origin.get('version'))}; this version reads format {CHECKPOINT_FORMAT}. "
            + ("Update cifar_lab" if newer else "Train the model again with scripts/fit.py")
        )
    _check_description(path, origin)


def _check_description(path: Path, origin: dict[str, Any]) -> None:
    """Refuses class names or facts of the data that are of another kind than those written."""
    names, data = origin.get("class_names"), origin.get("data")
    if not (isinstance(names, list) and all(map(_is_name, names))):
        raise UserError(f"{path}: altered (class names {shown(names)}; expected a list of names)")
    if not isinstance(data, dict):
        raise UserError(f"{path}: altered (data {shown(data)}; expected settings)")
    for name, kind in FACTS.items():
        value = data.get(name, kind())
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise UserError(f"{path}: altered (data {name} {shown(value)})")


def _is_name(value: object) -> bool:
    """Text that may be shown on a terminal, on one line."""
    return isinstance(value, str) and value.isprintable()


def _check_weights(path: Path, checkpoint: dict[str, Any], size: int) -> None:
    """Refuses weights, or settings of layers, that need more memory than the file has bytes.

    ``_at_most`` in inference/restore.py looks at those settings that it knows nothing of.
    """
    settings, weights = checkpoint.get("hyper_parameters"), checkpoint["state_dict"]
    if not isinstance(settings, dict) or not isinstance(weights, dict):
        raise UserError(f"{path}: altered (no settings or no weights)")
    for name, value in settings.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not all(item is None or isinstance(item, PLAIN) for item in items):
            raise UserError(f"{path}: altered (setting {shown(name)} {shown(value)})")
    tensors = list(weights.values())
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise UserError(f"{path}: altered (weights that are no tensors)")
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    try:
        needed = _layer_bytes(settings, tensors)
    except Exception as error:  # the content decides which
        raise UserError(f"{path}: altered (sizes of layers that are no integers)") from error
    if max(held, needed) > size:
        raise UserError(
            f"{path}: altered (weights of {max(held, needed):,} bytes in a file of {size:,})"
        )


def _layer_bytes(settings: dict[str, Any], tensors: list[Tensor]) -> int:
    """Bytes of the layers whose sizes are settings: ``hidden_units``, ``num_classes``."""
    floats = [tensor.element_size() for tensor in tensors if tensor.is_floating_point()]
    bytes_each = min(floats, default=4)
    units = [int(number) for number in settings.get("hidden_units") or []]
    sizes = [prod(IMAGE_SHAPE) if units else 1, *units, int(settings.get("num_classes", 1))]
    return sum(bytes_each * fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
