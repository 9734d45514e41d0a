"""What a run says on the console before and after it trains."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings

from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab import __version__
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import SYNTHETIC_NOTE
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.parsing import FitPlan
from cifar_lab.settings import FitSettings
from cifar_lab.training.open_run import OpenRun
from cifar_lab.training.run_folder import RunFolder
from cifar_lab.training.summary import Summary, describe_device


@rank_zero_only
def print_header(
    plan: FitPlan,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    trainer: Trainer,
    opened: OpenRun,
) -> None:
    """Says what is trained, on what, and where the run goes."""
    count = sum(parameter.numel() for parameter in model.parameters())
    sizes = ", ".join(f"{size:,} {split}" for split, size in data.sizes.items())
    device = describe_device(trainer)
    lines = {
        "model": f"{plan.recipe.model}, {count:,} parameters (recipe {plan.recipe.name}: "
        f"{plan.recipe.title})",
        "data": f"{data.image_set.description}; {sizes}",
        "device": f"{device['name']}, {device['precision']}"
        + (f", {device['processes']} processes" if device["processes"] > 1 else ""),
        "run": str(opened.folder.path)
        + (f", goes on from step {opened.step:,}" if opened.checkpoint else ""),
    }
    print(f"cifar_lab {__version__}")
    for name, text in lines.items():
        print(f"  {name:<8}{text}")
    sys.stdout.flush()


@rank_zero_only
def print_end(
    summary: Summary, settings: FitSettings, folder: RunFolder, with_dashboard: bool
) -> None:
    """Shows the summary, and how to look at the run."""
    if summary.data["source"] == "synthetic":
        print(f"\n{SYNTHETIC_NOTE}")
    print(f"\n{summary.table()}")
    limits = {
        "overfit_batches": settings.overfit_batches or None,
        "limit_val_batches": settings.limit_val_batches,
    }
    for name, value in limits.items():
        if value is not None and str(value) != "1.0":  # all; 1 is one batch
            print(f"  (--{name} {value}: evaluations saw only a part of the images)")
    print(f"\nrun folder: {folder.path}")
    if with_dashboard:
        print(f"tensorboard --logdir {shlex.quote(str(folder.log_dir))}")


def quiet() -> None:
    """Silences what Lightning says to people who write their own scripts, but for its profilers."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)
    # Lightning 2.6.6 calls a function that torch 2.14 deprecates; nothing a user could change.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # Its advice on its own logging, which our curves do not use (models/classifier.py).
    warnings.filterwarnings("ignore", message="The number of training batches")
