"""The settings that every run has, whatever its model."""

from dataclasses import dataclass
from typing import Literal

from cifar_lab.settings import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    Share,
    setting,
    settings_of,
)

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]
FREE = {"resumable": True, "decisive": False}


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run, apart from the model's own."""

    model: str = setting("cnn", "name of a model, or module:Class of your own", "run")
    recipe: str | None = setting(None, "recipe or .yaml file; default: the model's", "run")
    max_steps: PositiveInt | None = setting(
        None, "optimizer steps; overrides max_epochs", "run", resumable=True
    )
    max_epochs: PositiveInt | None = setting(
        None, "epochs; overrides the recipe's max_steps", "run", resumable=True
    )
    eval_every: PositiveInt = setting(500, "steps between evaluations", "run")
    batch_size: PositiveInt = setting(128, "training images per step and process", "run")
    accumulate_grad_batches: PositiveInt = setting(1, "batches per optimizer step", "run")
    gradient_clip_val: NonNegativeFloat | None = setting(
        None, "clip the gradient to this norm; 0: do not clip", "run"
    )
    seed: Seed = setting(0, "random seed of weights, batches and augmentation", "run")
    deterministic: bool = setting(False, "use deterministic algorithms on a GPU; slower", "run")

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting(
        "auto", "auto: the best available", "hardware", resumable=True
    )
    devices: str = setting(
        "1", 'a number: 2; a list: 0,1 or "1,"; auto: all', "hardware", resumable=True
    )
    strategy: str = setting("auto", "Lightning's strategy, such as ddp", "hardware", resumable=True)
    num_nodes: PositiveInt = setting(1, "number of machines", "hardware", resumable=True)
    precision: Precision = setting("auto", "auto: bf16 if faster", "hardware")
    threads: PositiveInt | None = setting(
        None, "CPU threads; default: all, shared by parallel runs", "hardware", **FREE
    )

    data_dir: str | None = setting(
        None, "data folder; default: $CIFAR_LAB_DATA, else ./data", "data", is_path=True, **FREE
    )
    source: Literal["auto", "cifar10", "synthetic"] = setting(
        "auto", "auto: find, else download, else synthetic", "data", **FREE
    )
    mirror: list[str] = setting(
        [], "download addresses; default: $CIFAR_LAB_MIRROR", "data", **FREE
    )
    val_size: NonNegativeInt | None = setting(
        None, "validation images; default: val/ or a tenth; 0: the report's protocol", "data"
    )
    test: bool = setting(
        True, "test and calibrate the best checkpoint once, at the end", "data", resumable=True
    )
    augment: list[str] = setting([], "any of flip,alternating_flip,crop,cutout, or none", "data")
    crop_padding: NonNegativeInt = setting(4, "largest shift by crop, in pixels", "data")
    verify_data: bool = setting(False, "decode image files even if they are cached", "data", **FREE)

    log_dir: str = setting(
        "lightning_logs", "folder for all runs", "output", decisive=False, is_path=True
    )
    note: str | None = setting(None, "note to store with the run", "output", **FREE)
    log_every: PositiveInt = setting(20, "steps between points of the training curves", "output")
    progress: Literal["auto", "bar", "line", "none"] = setting(
        "auto", "auto: a bar on a terminal", "output", **FREE
    )
    dashboard: Literal["full", "scalars", "off"] = setting(
        "full", "for TensorBoard; full: with pictures", "output", **FREE
    )
    logger: list[Literal["mlflow", "wandb", "comet", "neptune"]] = setting(
        [], "besides TensorBoard: any of mlflow,wandb,comet", "output", **FREE
    )
    profiler: Literal["simple", "advanced"] | None = setting(
        None, "time Lightning's hooks", "output", **FREE
    )
    checkpoint_minutes: PositiveFloat = setting(
        2.0, "minutes between checkpoints", "output", **FREE
    )

    fast_dev_run: bool = setting(False, "run one step and one evaluation; write nothing", "trial")
    overfit_batches: NonNegativeInt = setting(0, "train on only this many batches", "trial")
    limit_train_batches: PositiveInt | Share | None = setting(
        None, "batches per epoch; 0.1: a tenth of them", "trial"
    )
    limit_val_batches: PositiveInt | Share | None = setting(
        None, "batches per evaluation; 0.1: a tenth of them", "trial"
    )


RUN = settings_of(RunSettings)
