"""What a run prints before and after it trains."""

import io
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
from cifar_lab.plan import Plan
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.summary import Summary, describe_device
from cifar_lab.training.processes import Launch


@rank_zero_only
def print_header(
    plan: Plan,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    trainer: Trainer,
    folder: RunFolder,
    resumed_at: int | None,
) -> None:
    """Print what is trained, on what, and where; ``resumed_at`` is a step, or None."""
    count = sum(parameter.numel() for parameter in model.parameters())
    sizes = ", ".join(f"{size:,} {split}" for split, size in data.sizes.items())
    device = describe_device(trainer)
    processes = f", {device['processes']} processes" if device["processes"] > 1 else ""
    resumed = "" if resumed_at is None else f", resumed from step {resumed_at:,}"
    recipe = plan.recipe
    lines = {
        "model": f"{recipe.model}, {count:,} parameters (recipe {recipe.name}: {recipe.title})",
        "data": f"{data.image_set.description}; {sizes}",
        "device": f"{device['name']}, {device['precision']}{processes}",
        "run": f"{folder.path}{resumed}",
    }
    if model.note:
        lines["note"] = model.note
    launch = Launch.find()
    if launch.may_be_several_runs and trainer.world_size == 1:
        lines["task"] = f"{launch.rank} of {launch.processes} of srun, each with a run of its own"
    print(f"cifar_lab {__version__}")
    for name, text in lines.items():
        print(f"  {name:<8}{text}")
    sys.stdout.flush()


@rank_zero_only
def print_end(summary: Summary, plan: Plan, folder: RunFolder, with_dashboard: bool) -> None:
    """Print the summary, and how to look at the run."""
    if summary.data["source"] == "synthetic":
        print(f"\n{SYNTHETIC_NOTE}")
    print(f"\n{summary.table()}")
    limits = {
        "overfit_batches": plan.settings.overfit_batches or None,
        "limit_val_batches": plan.settings.limit_val_batches,
    }
    for name, value in limits.items():
        if value is not None and str(value) != "1.0":  # 1.0 is all, 1 is one batch
            print(f"  (--{name} {value}: evaluations used only some of the images)")
    print(f"\nrun folder: {folder.path}")
    if with_dashboard:
        print(f"tensorboard --logdir {shlex.quote(str(folder.log_dir))}")


def quiet() -> None:
    """Silence Lightning's advice to people who write their own scripts, but not its profilers.

    A name that the output's encoding cannot represent is escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as the error stream is
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)
    # Lightning 2.6.6 calls a function that torch 2.14 deprecates; a user cannot change that.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # Advice to use srun if it is on the path; training/processes.py uses it only for several
    # processes.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    # Lightning's advice about its own logging, which our curves do not use (models/curves.py).
    warnings.filterwarnings("ignore", message="The number of training batches")
