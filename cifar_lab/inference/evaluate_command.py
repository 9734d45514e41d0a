"""``scripts/evaluate.py``: what a checkpoint is worth, as a table or as JSON, with a figure.

Nothing heavy is imported before the flags are read, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

from cifar_lab.command_flags import Parser, add_checkpoint, add_data, add_device, add_output
from cifar_lab.command_line import command
from cifar_lab.errors import UserError

SPLITS = ("test", "val", "train")
TTA = ("none", "flip", "flip_shift", "flip_grid")
DESCRIPTION = """\
Evaluates a checkpoint: accuracy, loss, expected calibration error (15 bins), accuracy and precision
of each class, and the confusion matrix as a figure. Each image of the split counts once; all is
computed in float32. Settings, classes and normalisation come from the checkpoint.
Exit status: 0 done, 1 out of memory, 2 wrong input, 130 interrupted."""


@command("evaluate.py")
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    _run(_parse(argv))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("evaluate.py", DESCRIPTION)
    add_checkpoint(parser)
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default=SPLITS[0],
        help="val and train as the model's training had them (default: %(default)s)",
    )
    parser.add_argument(
        "--tta",
        choices=TTA,
        default=TTA[0],
        help="mean logits of the image and its mirror image (flip), also shifted by a pixel "
        "(flip_shift), or by three pixels or none each way (flip_grid, 18 views: for fully "
        "connected networks)",
    )
    add_device(parser)
    add_data(
        parser,
        auto="images of the model's own kind",
        folder="$CIFAR_LAB_DATA, else that of the run, else ./data",
    )
    add_output(parser, "confusion_SPLIT.png")
    return parser.parse(argv)


def _run(options: argparse.Namespace) -> None:
    from cifar_lab.checkpoint_file import find_checkpoint
    from cifar_lab.inference.confusion_file import open_folder, write_figure
    from cifar_lab.inference.evaluation import evaluate_logits
    from cifar_lab.inference.evaluation_report import Report
    from cifar_lab.inference.known_data import data_dir_of_run, load_split
    from cifar_lab.inference.logits import split_logits
    from cifar_lab.inference.restore import load_classifier

    path = find_checkpoint(options.checkpoint)
    model = load_classifier(path, options.accelerator)
    data_dir = options.data_dir or data_dir_of_run(path)
    known = load_split(model, options.split, data_dir, options.source or "auto")
    folder = open_folder(options.output, path)
    start = time.perf_counter()
    evaluation = evaluate_logits(*split_logits(model, known, options.batch_size, options.tta))
    seconds = time.perf_counter() - start
    names = known.image_set.class_names
    figure = folder / f"confusion_{options.split}.png"
    report = Report(path, model, options.split, options.tta, evaluation, known, figure, seconds)
    try:
        write_figure(evaluation, names, figure)
    except UserError:  # the numbers are there all the same
        report = replace(report, figure=None)
        raise
    finally:
        print(report.as_json() if options.json else report.as_text())
