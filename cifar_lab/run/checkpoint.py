"""Finding and reading checkpoint files that are not trusted, and writing them atomically.

Exported weights are read too: a ``.safetensors`` file that ``weights_file`` made. Torch's files are
read with ``weights_only=True``, which runs no code. A damaged file is refused with a message of a
line or two, before its content takes more memory than the file has bytes.
"""

import difflib
import glob
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from cifar_lab.errors import UserError
from cifar_lab.files import check_file, explained, shown, write_atomically
from cifar_lab.run.folder import run_folders

FILE_LIMIT = 2**32  # bytes; the largest model of the registry has 0.1 GB with its optimizer
WEIGHTS = ".safetensors"
ORIGIN = "cifar_lab"  # the only key of the metadata, as the order of several would vary
PRETRAINED = Path(__file__).parents[1] / "weights"  # folder of the models that are installed
CHECKPOINTS = ("best.ckpt", "last.ckpt")  # a run's folder stands for the first of these
READABLE = (1, 2)  # formats; see CHECKPOINT_FORMAT in models/classifier.py
PLAIN = (str, int, float)  # types of settings, and of the items of those that are lists
FACTS = {"source": str, "fingerprint": str, "val_size": int, "split_seed": int}  # about the data


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin, which saves through :func:`write_atomically`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save ``checkpoint`` at ``path`` atomically."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getbuffer())


def pretrained() -> list[str]:
    """Return the names of the pretrained models."""
    return sorted(path.stem for path in PRETRAINED.glob(f"*{WEIGHTS}"))


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint at a path; for the folder of a run, its best one, else its last.

    If nothing exists at the path, it may be the name of a pretrained model.
    """
    with explained(f"{shown(path)}: cannot be read"):
        path = path.expanduser()
        if path.is_file():
            return path
        if not path.is_dir():
            if path.exists():
                raise UserError(f"{path}: not a file, but a pipe or device")
            return _find_pretrained(str(path))
        if found := _checkpoint_in(path):
            return found
        # In the folder of a model's runs, or in that of all models.
        whole = path.absolute()
        versions = [path / r.version for r in run_folders(whole.parent, glob.escape(whole.name))]
        runs = versions or [run.path for run in run_folders(path)]
        there = [run for run in runs if _checkpoint_in(run)]
    hint = f"; it holds runs: give one, such as {there[-1]}" if there else ""
    if str(path) in pretrained():
        hint += "; it hides the pretrained model of this name: work in another folder"
    raise UserError(f"{path}: no checkpoints/best.ckpt or last.ckpt in this folder{hint}")


def _checkpoint_in(folder: Path) -> Path | None:
    places = [place / name for place in (folder, folder / "checkpoints") for name in CHECKPOINTS]
    return next(filter(Path.is_file, places), None)


def _find_pretrained(name: str) -> Path:
    names = pretrained()
    if name in names:
        return PRETRAINED / f"{name}{WEIGHTS}"
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"pretrained models: {', '.join(names)}"
    raise UserError(f"{shown(name)}: no such checkpoint; {hint}")


def weights_file(
    state: dict[str, Tensor], settings: dict[str, Any], origin: dict[str, Any]
) -> bytes:
    """Return the content of a ``.safetensors`` file of a model.

    Args:
        state: weights by their names.
        settings: arguments of the constructor of the model.
        origin: ``ImageClassifier.origin``, perhaps with the fields of a calibration.
    """
    whole = torch.contiguous_format
    tensors = {name: tensor.cpu().clone(memory_format=whole) for name, tensor in state.items()}
    return save(tensors, {ORIGIN: json.dumps({**origin, "hyper_parameters": settings})})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint of this package, in a readable format, on the CPU."""
    with explained(f"{path}: cannot be read"):
        try:
            size = check_file(path, FILE_LIMIT)
            if path.suffix == WEIGHTS:
                content = _read_weights(path)
            else:
                _check_zip(path, size)
                content = torch.load(path, map_location="cpu", weights_only=True)
        except (UserError, OSError):
            raise
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{path}: not a checkpoint that is safe to read: it holds more than tensors and "
                "plain values, or is damaged"
            ) from error
        except Exception as error:  # a damaged file makes torch raise errors of every kind
            raise UserError(f"{path}: damaged or not a checkpoint") from error
    _check_origin(path, content)
    _check_weights(path, content, size)
    return content


def _read_weights(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        origin = json.loads((file.metadata() or {}).get(ORIGIN, "null"))
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
    settings = origin.pop("hyper_parameters", None) if isinstance(origin, dict) else None
    return {"state_dict": state, "hyper_parameters": settings, "cifar_lab": origin}


def _check_zip(path: Path, size: int) -> None:
    """Refuse a file that is not an undamaged zip file as torch writes it.

    Torch's files are not compressed; a compressed one could take a thousand times its size in
    memory. Torch verifies no checksums, so an altered weight would pass. It does not read a part
    that is marked as a folder, whose weights would then be uninitialised memory.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: damaged or not a checkpoint ({size:,} bytes)")
    with zipfile.ZipFile(path) as file:
        parts = file.infolist()
        if sum(part.file_size for part in parts) > size:
            raise UserError(f"{path}: not a checkpoint that is safe to read: it is compressed")
        odd = next((part.filename for part in parts if part.external_attr), None)
        if broken := odd or file.testzip():
            raise UserError(f"{path}: damaged ({shown(broken)} inside is not as it was written)")


def _check_origin(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path}: not a checkpoint of cifar_lab (it has no state_dict)")
    origin = content.get("cifar_lab")
    if not isinstance(origin, dict):
        raise UserError(
            f"{path}: not a checkpoint of cifar_lab, or one older than its format 1; "
            "train the model again"
        )
    found = origin.get("format")
    if found not in READABLE:
        is_newer = isinstance(found, int) and found > max(READABLE)
        advice = "Update cifar_lab" if is_newer else "Train the model again"
        raise UserError(
            f"{path}: checkpoint format {shown(found)} of cifar_lab "
            f"{shown(origin.get('version'))}; this version reads the formats "
            f"{' and '.join(map(str, READABLE))}. {advice}"
        )
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
    return isinstance(value, str) and value.isprintable()  # it may be shown on a terminal


def _check_weights(path: Path, checkpoint: dict[str, Any], size: int) -> None:
    """Refuse settings that are not plain values, and weights larger than the file."""
    settings, weights = checkpoint.get("hyper_parameters"), checkpoint["state_dict"]
    if not isinstance(settings, dict) or not isinstance(weights, dict):
        raise UserError(f"{path}: altered (no settings or no weights)")
    for name, value in settings.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not all(item is None or isinstance(item, PLAIN) for item in items):
            raise UserError(f"{path}: altered (setting {shown(name)} {shown(value)})")
    tensors = list(weights.values())
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise UserError(f"{path}: altered (weights that are not tensors)")
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if held > size:
        raise UserError(f"{path}: altered (weights of {held:,} bytes in a file of {size:,})")
