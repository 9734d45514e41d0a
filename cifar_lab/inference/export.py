"""A trained model as a file that runs without this package: ONNX, or a program of torch.export.

Both take raw uint8 images, since normalisation is a layer of the model, in batches of any size; the
names of the classes travel in the file. Each file is run and compared with the model before it gets
its place; one that differs never does.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.errors import UserError
from cifar_lab.inference.export_check import Difference, Predict, difference, run_onnx, run_torch
from cifar_lab.inference.traceable import traceable
from cifar_lab.models.classifier import ImageClassifier

OPSET = 18  # of ONNX: the one that torch's exporter writes without converting
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Format:
    """A kind of file: its suffix, what writes a program with its class names, what runs it."""

    suffix: str
    write: Callable[[ExportedProgram, str, Path], None]
    run: Callable[[Path], Predict]


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked, its format's name and how far it is from the model."""

    path: Path
    format: str
    difference: Difference


class ExportError(RuntimeError):
    """An exported file computes something else than the model."""


def export(
    model: ImageClassifier, path: Path, formats: Iterable[str], largest_batch: int = 64
) -> list[Exported]:
    """Writes the model in each format, or in none where a check fails.

    Args:
        model: in ``eval`` mode.
        path: of the files; its suffix is replaced by that of each format. Files that are there are
            replaced, all together at the end.
        formats: names out of ``FORMATS``.
        largest_batch: images at a time when the files are compared with the model.

    Raises:
        UserError: the files cannot be written, or packages are missing.
        ExportError: a file differs from the model by more than the tolerance.
    """
    formats = list(formats)
    if "onnx" in formats:
        check_packages()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as side:
            made = _write(model, Path(side) / path.name, formats, largest_batch)
            return [_place(file, path) for file in made]
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written ({error.strerror or error})") from error


def check_packages() -> None:
    """Looks for the packages of ONNX.

    Raises:
        UserError: one is missing, with the command that installs it.
    """
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"the ONNX format needs the package {name}: pip install -e '.[export]' "
                "(or choose --format torch)"
            ) from error


def trace(model: ImageClassifier) -> ExportedProgram:
    """The model as a program of torch's operations, for a batch of any size."""
    images = torch.zeros(2, *IMAGE_SHAPE, dtype=torch.uint8)  # a batch of 1 would fix its size
    shapes = {INPUT: {0: torch.export.Dim(BATCH)}}
    with torch.no_grad():
        program = torch.export.export(traceable(model), (images,), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of this machine
    return program


def _write(
    model: ImageClassifier, side: Path, formats: Iterable[str], largest_batch: int
) -> list[Exported]:
    """Writes and checks every format at the side."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporters warn of, the comparison sees
        program = trace(model)
        return [_write_one(model, program, name, side, largest_batch) for name in formats]


def _write_one(
    model: ImageClassifier, program: ExportedProgram, name: str, side: Path, largest_batch: int
) -> Exported:
    file = side.with_suffix(FORMATS[name].suffix)
    FORMATS[name].write(program, json.dumps(model.class_names), file)
    found = difference(model, FORMATS[name].run(file), largest_batch)
    if not found.tolerable:
        raise ExportError(f"the {name} file differs from the model: {found}; nothing is kept")
    return Exported(file, name, found)


def _place(made: Exported, path: Path) -> Exported:
    """Gives a checked file its place, beside ``path``."""
    final = path.with_suffix(made.path.suffix)
    os.replace(made.path, final)
    return Exported(final, made.format, made.difference)


def _write_torch(program: ExportedProgram, class_names: str, path: Path) -> None:
    torch.export.save(program, path, extra_files={"class_names.json": class_names})


def _write_onnx(program: ExportedProgram, class_names: str, path: Path) -> None:
    exported = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={INPUT: {0: BATCH}},  # the program knows it; this is for the name
        external_data=False,  # weights in the same file
        verbose=False,
    )
    assert exported is not None  # it is, with dynamo=True
    exported.model.metadata_props["class_names"] = class_names
    exported.save(path)


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, run_onnx),
    "torch": Format(".pt2", _write_torch, run_torch),
}
