"""``scripts/predict.py``: what a trained model sees in image files.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_lab.command_flags import (
    Parser,
    a_path,
    add_checkpoint,
    add_device,
    add_json,
    positive_int,
)
from cifar_lab.command_line import command

if TYPE_CHECKING:
    from cifar_lab.inference.prediction import Prediction

PROG = "predict.py"


@command(PROG)
def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status.

    Args:
        argv: the flags; default: those of the process.

    Returns:
        0 if every image was read, 2 if one was not or a flag is wrong.
    """
    args = _parse(argv)
    from tqdm import tqdm

    from cifar_lab.inference.images import find_images
    from cifar_lab.inference.prediction import predict
    from cifar_lab.inference.restore import load_classifier

    model = load_classifier(args.checkpoint, args.accelerator)
    paths = find_images(args.images)
    predictions = predict(model, paths, batch_size=args.batch_size, top=args.top)
    # A bar on a terminal, unless the predictions themselves appear there.
    hidden = None if args.json or not sys.stdout.isatty() else True
    bar = tqdm(predictions, "predicting", len(paths), leave=False, disable=hidden)
    names = model.class_names
    failures = _print_json(bar) if args.json else _print(bar, paths, names)
    return 2 if failures else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        PROG,
        "Print the most probable classes of images, with their probabilities.\n\n"
        "Images may have any size, mode and format that Pillow reads, up to 67,108,864 pixels.\n"
        "They are turned upright as EXIF says, converted to RGB, transparent parts over white,\n"
        "cropped to the square in their middle and resized to 32×32 pixels (bicubic,\n"
        "antialiased). 32×32 images are taken as they are; of animations, the first frame.\n\n"
        "Exit status: 0 done, 1 out of memory, 2 an image could not be read (the others are\n"
        "still predicted) or other wrong input.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=a_path,
        help="image files, or folders, which are searched to any depth",
    )
    parser.add_argument(
        "--top",
        type=positive_int,
        default=3,
        metavar="K",
        help="classes to print of an image (default: %(default)s)",
    )
    add_device(parser)
    add_json(parser)
    return parser.parse(argv)


def _print(
    predictions: Iterable[Prediction], paths: Sequence[Path], class_names: Sequence[str]
) -> int:
    """Prints a line for each image as soon as its batch is done; gives the number of failures."""
    from cifar_lab.inference.images import printable

    width = max(len(printable(path)) for path in paths)
    name_width = max(map(len, class_names), default=2)
    failures = 0
    for prediction in predictions:
        failures += _report(prediction)
        if prediction.error is None:
            cells = [f"{name:<{name_width}} {p:7.2%}" for name, p in prediction.classes]
            print(f"{printable(prediction.path):<{width}}   " + "   ".join(cells))
    return failures


def _print_json(predictions: Iterable[Prediction]) -> int:
    """Prints a list of all images; gives the number of failures."""
    rows: list[dict[str, Any]] = []
    failures = 0
    for prediction in predictions:
        failures += _report(prediction)
        row: dict[str, Any] = {"path": str(prediction.path)}
        if prediction.error is None:
            row["classes"] = [{"class": name, "probability": p} for name, p in prediction.classes]
        else:
            row["error"] = prediction.error
        rows.append(row)
    print(json.dumps(rows, indent=1))
    return failures


def _report(prediction: Prediction) -> bool:
    """Says on the error stream what is wrong with an image; gives whether something is."""
    if prediction.error is not None:
        print(f"{PROG}: {prediction.error}", file=sys.stderr)
    return prediction.error is not None
