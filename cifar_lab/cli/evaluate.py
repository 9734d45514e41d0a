"""``cifar-lab evaluate``: the accuracy of a checkpoint, as a table or as JSON, with a figure."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cifar_lab.cli.output import folder_beside
from cifar_lab.cli.parser import CHECKPOINT, OWN_MODEL, Command, images_at_a_time
from cifar_lab.errors import UserError
from cifar_lab.run_settings import RUN
from cifar_lab.settings import setting


@dataclass(frozen=True)
class _Options:
    split: Literal["test", "val", "train"] = setting(
        "test", "val and train are those of the model's training"
    )
    tta: Literal["none", "flip", "flip_shift", "flip_grid"] = setting(
        "none",
        "average the logits over the image and its mirror image (flip), also shifted by one pixel "
        "(flip_shift), or over all shifts by 0 or ±3 pixels (flip_grid, 18 views: for fully "
        "connected networks)",
    )
    output: Path | None = setting(
        None,
        "folder for the figure, confusion_SPLIT.png (default: beside the checkpoint, or here for a "
        "pretrained model)",
    )
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "evaluate",
    "Evaluates a checkpoint: accuracy, loss, expected calibration error (15 bins), accuracy and\n"
    "precision of each class, and the confusion matrix as a figure. Each image of the split\n"
    "counts once; everything is computed in float32. Settings, classes and normalization come\n"
    "from the checkpoint. Images may also be NumPy files with labels: for CIFAR-10-C (--data_dir\n"
    "CIFAR-10-C) a table of corruptions and severities is printed.\n\n"
    "For a calibrated run, the calibration error after temperature scaling is printed too: all\n"
    "logits are divided by one number that was fitted on the validation split\n"
    "(https://arxiv.org/abs/1706.04599).\n\n"
    "Exit status: 0 done, 1 out of memory, 2 wrong input, 130 interrupted.",
    _Options,
    positionals=(CHECKPOINT,),
    shared=(
        OWN_MODEL,
        "accelerator",
        images_at_a_time(500),
        replace(
            RUN["data_dir"],
            help="default: $CIFAR_LAB_DATA, else the data folder of the run, else ./data",
        ),
        replace(RUN["source"], help="auto: what the model was trained on"),
    ),
    example="lightning_logs/cnn/version_0 --split val",
)


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    from cifar_lab.inference.arrays import load_arrays
    from cifar_lab.inference.evaluation import evaluate_logits
    from cifar_lab.inference.evaluation_report import (
        Report,
        figure_name,
        model_name,
        write_figure,
    )
    from cifar_lab.inference.known_data import data_dir_of_run, load_split
    from cifar_lab.inference.logits import split_logits
    from cifar_lab.inference.robustness import evaluate_sets, table
    from cifar_lab.run.checkpoint import PRETRAINED, find_checkpoint
    from cifar_lab.run.restore import load_model

    path = find_checkpoint(options.ckpt)
    shown = options.ckpt if path.parent == PRETRAINED else path  # not a path of this machine
    model = load_model(path, options.accelerator, options.model)
    sets = load_arrays(model, options.split, options.data_dir, options.source)
    if len(sets) > 1:
        if options.output:
            raise UserError(f"--output {options.output}: no figure is drawn of several sets")
        found = {"checkpoint": str(shown), "model": model_name(model)}
        found |= evaluate_sets(model, sets, options.batch_size, options.tta)
        print(json.dumps(found, indent=2, allow_nan=False) if options.json else table(found))
        return 0
    is_synthetic = model.data.get("source") == "synthetic"
    data_dir = options.data_dir or (None if is_synthetic else data_dir_of_run(path))
    if sets:
        known = sets[0].known(model)
    else:
        known = load_split(model, options.split, data_dir, options.source)
    folder = folder_beside(path, options.ckpt, options.output)
    figure = folder / figure_name(path, model, known, options.split, options.tta)
    start = time.perf_counter()
    logits = split_logits(model, known, options.batch_size, options.tta)
    # The temperature is that of the logits of one view.
    calibration = model.calibration if options.tta == "none" else None
    evaluation = evaluate_logits(*logits, calibration)
    seconds = time.perf_counter() - start
    report = Report(shown, model, options.split, options.tta, evaluation, known, figure, seconds)
    try:
        write_figure(evaluation, known.image_set.class_names, figure)
    except UserError:  # the numbers are printed all the same
        report = replace(report, figure=None)
        raise
    finally:
        print(report.as_json() if options.json else report.as_text())
    return 0
