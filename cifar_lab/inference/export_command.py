"""``scripts/export.py``: writes a trained model for other programs, and checks what it wrote.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cifar_lab.command_flags import Parser, add_checkpoint, add_device, add_output
from cifar_lab.command_line import command
from cifar_lab.errors import UserError

if TYPE_CHECKING:
    from cifar_lab.inference.export import Exported
    from cifar_lab.models.classifier import ImageClassifier

PROG = "export.py"


@command(PROG)
def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status.

    Args:
        argv: the flags; default: those of the process.

    Returns:
        0 if the files are written and agree with the model, 1 if one does not, 2 for wrong input.
    """
    args = _parse(argv)
    from cifar_lab.checkpoint_file import find_checkpoint
    from cifar_lab.inference.export import FORMATS, ExportError, export
    from cifar_lab.inference.restore import load_classifier

    source = find_checkpoint(args.checkpoint)
    model = load_classifier(source, args.accelerator)
    path = (args.output or source.parent) / source.name
    formats = list(FORMATS) if args.format == "both" else [args.format]
    if source.suffix in {FORMATS[name].suffix for name in formats}:
        raise UserError(f"{source}: would be overwritten; give the checkpoint another suffix")
    try:
        exported = export(model, path, formats, args.batch_size)
    except ExportError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 1
    facts = _facts(model, exported, args.batch_size)
    print(json.dumps(facts, indent=1) if args.json else _text(facts, exported))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        PROG,
        "Export a trained model to files that run without this package: ONNX (CKPT's name with\n"
        ".onnx) and a program for torch.export.load (.pt2). They take raw uint8 images\n"
        "(B, 3, 32, 32), any B, and give logits. Each is run on the CPU and compared with the\n"
        "model on --accelerator, in batches up to --batch_size; a file that differs is removed.\n\n"
        "Exit status: 0 done, 1 a file differs from the model, 2 wrong input.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--format", choices=("onnx", "torch", "both"), default="both", help="(default: both)"
    )
    add_device(parser, batch_size=64)
    add_output(parser, "the files")
    return parser.parse(argv)


def _facts(model: ImageClassifier, exported: Sequence[Exported], batch_size: int) -> dict[str, Any]:
    from cifar_lab.data.image_set import IMAGE_SHAPE
    from cifar_lab.inference.export import BATCH, INPUT, OPSET, OUTPUT
    from cifar_lab.inference.export_check import TOLERANCE, batch_sizes

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
                "bytes": file.path.stat().st_size,
                "largest_difference": file.difference.absolute,
                "relative_difference": file.difference.relative,
            }
            for file in exported
        ],
        "relative_tolerance": TOLERANCE,
        "batch_sizes": list(batch_sizes(batch_size)),
    }


def _text(facts: dict[str, Any], exported: Sequence[Exported]) -> str:
    """The same for a person."""
    sizes = ", ".join(map(str, facts["batch_sizes"]))
    lines = [f"{facts['model']}; compared on random images, in batches of {sizes}"]
    for name in ("input", "output"):
        value = facts[name]
        lines.append(f"  {name:<7} {value['name']}, {value['dtype']} {_shape(value['shape'])}")
    for row, file in zip(facts["files"], exported, strict=True):
        opset = f"opset {row['opset']}, " if row["opset"] else ""
        lines += [f"{row['path']}", f"  {opset}{row['bytes']:,} bytes; {file.difference}"]
    return "\n".join(lines)


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"
