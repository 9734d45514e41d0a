"""Export of a trained model to a file for other programs: ONNX, torch.export or safetensors.

The first two run without this package and take raw uint8 images in batches of any size, since
normalization is a layer of the model. A safetensors file holds the weights and what this package
needs to rebuild the model; every command accepts it in place of a checkpoint. All of them hold the
names of the classes. Each file is run and compared with the model before it is moved into place; a
file that differs is removed.
"""

import copy
import importlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch.export import ExportedProgram

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.inference.export_check import (
    HALF,
    TOLERANCE,
    Difference,
    Predict,
    difference,
    run_onnx,
)
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.mlp import MLP
from cifar_lab.models.numpy_mlp import NumpyMLP
from cifar_lab.run.checkpoint import ORIGIN, WEIGHTS, read_checkpoint, weights_file
from cifar_lab.run.restore import load_model

IR_VERSION = 8  # the format of ONNX 1.13, which came with the operators below
OPSET = 18  # the version of ONNX's operators that torch's exporter writes without conversion
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class Source:
    """A model in ``eval`` mode to export.

    Args:
        model: the model, on any device.
        half: whether a safetensors file holds matrices and filters in float16.
    """

    def __init__(self, model: ImageClassifier, half: bool = False) -> None:
        self.model, self.half = model, half

    @cached_property
    def program(self) -> ExportedProgram:
        """The model as a program of torch's operations; tracing takes seconds."""
        return trace(self.model)

    @property
    def class_names(self) -> str:
        """The names of the classes, as JSON."""
        return json.dumps(self.model.class_names)


@dataclass(frozen=True)
class Format:
    """A file format."""

    suffix: str
    write: Callable[[Source, Path], None]
    run: Callable[[Path], Predict]  # loads the file


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked."""

    path: Path
    format: str  # a name from FORMATS
    difference: Difference  # between its logits and the model's


class ExportError(RuntimeError):
    """An exported file computes different logits than the model."""


def export(
    model: ImageClassifier,
    path: Path,
    formats: Collection[str],
    largest_batch: int = 64,
    half: bool = False,
) -> list[Exported]:
    """Write a model in ``eval`` mode in each format, or in none if a check fails.

    Each format replaces the suffix of ``path``; existing files are overwritten. ``largest_batch``
    is the number of images in the largest batch on which files and model are compared. With
    ``half``, a safetensors file holds matrices and filters in float16, and may differ by ``HALF``.

    Raises:
        UserError: The files cannot be written, or packages are missing.
        ExportError: A file differs from the model by more than the tolerance.
    """
    if "onnx" in formats:
        check_packages()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as side:
            made = _write(Source(model, half), Path(side) / path.name, formats, largest_batch)
            for file in made:
                os.replace(file.path, path.parent / file.path.name)
            return [replace(file, path=path.parent / file.path.name) for file in made]
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written ({error.strerror or error})") from error


def check_packages() -> None:
    """Raise a UserError that says what to install, if a package for ONNX is missing."""
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"the ONNX format needs the package {name}: pip install 'cifar_lab[export]' "
                "(or choose --format torch)"
            ) from error


def trace(model: ImageClassifier) -> ExportedProgram:
    """Return the model as a program of torch's operations, for batches of any size."""
    images = torch.zeros(2, *IMAGE_SHAPE, dtype=torch.uint8)  # torch would fix a batch size of 1
    shapes = {INPUT: {0: torch.export.Dim(BATCH)}}
    with torch.no_grad():
        program = torch.export.export(traceable(model), (images,), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    return program


@torch.no_grad()
def traceable(model: ImageClassifier) -> ImageClassifier:
    """Return a copy that computes the same in torch operations, on the CPU in ``eval`` mode.

    A NumpyMLP becomes an MLP with its weights, since exporters cannot follow NumPy. Weights get the
    usual memory layout, which ``torch.export.save`` needs; backends choose their own.
    """
    copied = _as_mlp(model) if isinstance(model, NumpyMLP) else copy.deepcopy(model)
    copied.network.to(memory_format=torch.contiguous_format)
    return copied.cpu().eval()


def _as_mlp(model: NumpyMLP) -> MLP:
    units, kind = model.hparams["hidden_units"], model.normalize.kind
    copied = MLP(units, normalization=kind, num_classes=model.num_classes)
    copied.normalize.load_state_dict(model.normalize.state_dict())
    pairs = zip(copied.network.parameters(), model.network.parameters(), strict=True)
    for parameter, value in pairs:  # weight and bias of each layer, in order
        parameter.copy_(value)
    return copied


def _write(
    source: Source, side: Path, formats: Iterable[str], largest_batch: int
) -> list[Exported]:
    """Write every format at ``side``, and compare it with the model."""
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the comparison finds what exporters warn about
        for name in formats:
            file = side.with_suffix(FORMATS[name].suffix)
            FORMATS[name].write(source, file)
            allowed = HALF if source.half else TOLERANCE
            found = difference(source.model, FORMATS[name].run(file), largest_batch, allowed)
            if not found.tolerable:
                what = f"the {name} file differs from the model"
                raise ExportError(f"{what}: {found}; nothing is kept")
            made.append(Exported(file, name, found))
    return made


def _write_torch(source: Source, path: Path) -> None:
    content = io.BytesIO()  # neither torch nor onnxruntime accepts every path of the system
    extra = {"class_names.json": source.class_names}
    torch.export.save(source.program, content, extra_files=extra)
    path.write_bytes(content.getbuffer())


def _run_torch(path: Path) -> Predict:
    return torch.export.load(io.BytesIO(path.read_bytes())).module()


def _write_onnx(source: Source, path: Path) -> None:
    exported = torch.onnx.export(
        source.program,
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={INPUT: {0: BATCH}},  # the program has it; this names it
        external_data=False,  # weights in the same file
        verbose=False,
    )
    assert exported is not None  # with dynamo=True it never is
    graph = exported.model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)]
    for part in (graph, *graph, *values):
        part.metadata_props.clear()  # notes of the exporter, for which IR_VERSION has no fields
    exported.model.ir_version = IR_VERSION
    exported.model.metadata_props["class_names"] = source.class_names
    exported.save(path)


def _write_weights(source: Source, path: Path) -> None:
    model, state = source.model, source.model.state_dict()
    if source.half:  # vectors and statistics are small, and may exceed the range of float16
        state |= {n: p.detach().half() for n, p in model.named_parameters() if p.ndim > 1}
    known = model.calibration
    origin = model.origin | {"calibration": asdict(known) if known else None}
    path.write_bytes(weights_file(state, model.hparams, origin))


def _run_weights(path: Path) -> Predict:
    name = read_checkpoint(path)[ORIGIN]["model"]  # a file that was written just now
    return torch.no_grad()(load_model(path, "cpu", name))


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, run_onnx),
    "torch": Format(".pt2", _write_torch, _run_torch),
    "safetensors": Format(WEIGHTS, _write_weights, _run_weights),
}
