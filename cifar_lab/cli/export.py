"""``cifar-lab export``: export a trained model for other programs, and check the files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifar_lab.cli.main import tell
from cifar_lab.cli.output import folder_beside
from cifar_lab.cli.parser import CHECKPOINT, OWN_MODEL, Command, images_at_a_time
from cifar_lab.errors import FAILED, UserError
from cifar_lab.settings import setting

if TYPE_CHECKING:
    from cifar_lab.inference.export import Exported
    from cifar_lab.models.classifier import ImageClassifier


@dataclass(frozen=True)
class _Options:
    format: Literal["onnx", "torch", "both", "safetensors"] = setting(
        "both", "which files to write; both: ONNX and torch"
    )
    half: bool = setting(False, "store safetensors weights as float16, at half the size")
    output: Path | None = setting(
        None, "folder for the files (default: beside the checkpoint; here for a pretrained model)"
    )
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "export",
    "Exports a trained model to files that run without this package: ONNX (CKPT's name with\n"
    ".onnx) and a program for torch.export.load (.pt2). They take raw uint8 images\n"
    "(B, 3, 32, 32), any B, and return logits. --format safetensors writes the weights only,\n"
    "under their names, with what this package needs to accept the file as a CKPT.\n"
    "Each file is run on the CPU and compared with the model on --accelerator, in batches up\n"
    "to --batch_size; a file that differs is removed.\n\n"
    "Exit status: 0 done, 1 a file differs from the model, 2 wrong input.",
    _Options,
    positionals=(CHECKPOINT,),
    shared=(OWN_MODEL, "accelerator", images_at_a_time(64)),
    example="lightning_logs/cnn/version_0 --format onnx",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from cifar_lab.inference.export import FORMATS, ExportError, export
    from cifar_lab.run.checkpoint import find_checkpoint
    from cifar_lab.run.restore import load_model

    source = find_checkpoint(options.ckpt)
    model = load_model(source, options.accelerator, options.model)
    path = folder_beside(source, options.ckpt, options.output) / source.name
    formats = ["onnx", "torch"] if options.format == "both" else [options.format]
    if options.half and options.format != "safetensors":
        raise UserError("--half: only with --format safetensors")
    if source.resolve() in {path.with_suffix(FORMATS[name].suffix).resolve() for name in formats}:
        raise UserError(f"{source}: would be overwritten; give another --output")
    try:
        exported = export(model, path, formats, options.batch_size, options.half)
    except ExportError as error:
        tell(f"cifar-lab export: {error}")
        return FAILED
    facts = _facts(model, exported, options.batch_size)
    print(json.dumps(facts, indent=1) if options.json else _text(facts, exported))
    return 0


def _facts(model: ImageClassifier, exported: Sequence[Exported], batch_size: int) -> dict[str, Any]:
    from cifar_lab.data.image_set import IMAGE_SHAPE
    from cifar_lab.inference.export import BATCH, INPUT, IR_VERSION, OPSET, OUTPUT
    from cifar_lab.inference.export_check import batch_sizes

    return {
        "model": type(model).__name__,
        "class_names": list(model.class_names),
        "input": {"name": INPUT, "dtype": "uint8", "shape": [BATCH, *IMAGE_SHAPE]},
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [BATCH, model.num_classes]},
        "files": [
            {
                "path": str(file.path),
                "format": file.format,
                "opset": OPSET if file.format == "onnx" else None,
                "ir_version": IR_VERSION if file.format == "onnx" else None,
                "bytes": file.path.stat().st_size,
                "largest_difference": file.difference.absolute,
                "relative_difference": file.difference.relative,
            }
            for file in exported
        ],
        "relative_tolerance": exported[0].difference.allowed,
        "batch_sizes": list(batch_sizes(batch_size)),
    }


def _text(facts: dict[str, Any], exported: Sequence[Exported]) -> str:
    sizes = ", ".join(map(str, facts["batch_sizes"]))
    lines = [f"{facts['model']}; compared on random images, in batches of {sizes}"]
    for name in ("input", "output"):
        value = facts[name]
        shape = ", ".join(map(str, value["shape"]))
        lines.append(f"  {name:<7} {value['name']}, {value['dtype']} ({shape})")
    for row, file in zip(facts["files"], exported, strict=True):
        kind = f"opset {row['opset']}, IR version {row['ir_version']}, " if row["opset"] else ""
        lines += [f"{row['path']}", f"  {kind}{row['bytes']:,} bytes; {file.difference}"]
    return "\n".join(lines)
