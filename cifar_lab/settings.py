"""The settings of a run that do not belong to a model: each field is a flag and a key of a recipe.

Light to import: the command line builds its help from here, without torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
)

if TYPE_CHECKING:
    Seed = int
    Share = float
else:
    Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])
    Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]


def _flag(group: str, help: str, default: Any = None) -> Any:
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata={"group": group, "help": help})
    return field(default=default, metadata={"group": group, "help": help})


@dataclass
class FitSettings:
    """What ``scripts/fit.py`` is told, apart from the model's own settings."""

    model: str = _flag("run", "what to train", "cnn")
    recipe: str | None = _flag("run", "recipe to start from (the model's own)")
    max_steps: PositiveInt | None = _flag("run", "optimizer steps; overrides max_epochs")
    max_epochs: PositiveInt | None = _flag("run", "epochs; overrides the recipe's max_steps")
    eval_every: PositiveInt = _flag("run", "steps between evaluations", 500)
    batch_size: PositiveInt = _flag("run", "training images a step, for each process", 128)
    accumulate_grad_batches: PositiveInt = _flag("run", "batches to one optimizer step", 1)
    gradient_clip_val: NonNegativeFloat | None = _flag("run", "largest gradient norm; 0: any")
    seed: Seed = _flag("run", "of weights, batches, augmentation and dropout", 0)
    deterministic: bool = _flag("run", "deterministic algorithms, for a GPU; slower", False)

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = _flag(
        "hardware", "auto: the best there is", "auto"
    )
    devices: str = _flag("hardware", "how many: 2; which: 0,1 or 1, alone; auto: all", "1")
    strategy: str = _flag("hardware", "of Lightning, such as ddp", "auto")
    num_nodes: PositiveInt = _flag("hardware", "machines", 1)
    precision: Precision = _flag("hardware", "auto: bf16 if faster", "auto")

    data_dir: str | None = _flag("data", "default: $CIFAR_LAB_DATA, else ./data")
    source: Literal["auto", "cifar10", "synthetic"] = _flag(
        "data", "auto: find, else download, else synthetic", "auto"
    )
    mirror: list[str] = _flag(
        "data", "where to download from (default: $CIFAR_LAB_MIRROR, else known ones)", []
    )
    val_size: NonNegativeInt | None = _flag(
        "data", "images held out to select on (a tenth); 0: the report's protocol"
    )
    augment: list[str] = _flag("data", "some of flip,alternating_flip,crop,cutout, or none", [])
    crop_padding: NonNegativeInt = _flag("data", "pixels that crop shifts by at most", 4)
    verify_data: bool = _flag("data", "compare an image tree with its cache by content", False)

    log_dir: str = _flag("output", "folder of the runs", "lightning_logs")
    log_every: PositiveInt = _flag("output", "steps between points of the training curves", 20)
    progress: Literal["auto", "bar", "line", "none"] = _flag(
        "output", "auto: a bar on a terminal, else lines", "auto"
    )
    dashboard: Literal["full", "scalars", "off"] = _flag(
        "output", "TensorBoard; full: with pictures", "full"
    )
    profiler: Literal["simple", "advanced"] | None = _flag("output", "time Lightning's hooks")
    resume: str | None = _flag("output", "go on with a run: its folder or checkpoint, or last")
    checkpoint_minutes: PositiveFloat = _flag(
        "output", "between checkpoints; one at each evaluation too", 2.0
    )

    fast_dev_run: bool = _flag("trial", "one step and one evaluation, nothing written", False)
    overfit_batches: NonNegativeInt = _flag("trial", "train on this many batches alone", 0)
    limit_train_batches: PositiveInt | Share | None = _flag("trial", "batches an epoch; 0.1: share")
    limit_val_batches: PositiveInt | Share | None = _flag("trial", "the same of a validation")
