"""What several tests of the models need."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger

from cifar_lab import CIFAR10DataModule
from cifar_lab.models import ImageClassifier


@pytest.fixture
def trainer() -> Callable[..., Trainer]:
    """Builds a Trainer on the CPU that writes and shows nothing."""
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return lambda **options: Trainer(
        **{"accelerator": "cpu", **dict.fromkeys(quiet, False), **options}
    )


@pytest.fixture
def data(tree: Path) -> Callable[..., CIFAR10DataModule]:
    """The small tree in batches of 20, without held-out images."""
    return lambda **options: CIFAR10DataModule(tree, **{"batch_size": 20, "val_size": 0, **options})


@pytest.fixture
def fit(trainer: Callable[..., Trainer], data: Callable[..., Any]) -> Callable[..., Trainer]:
    """Trains a model some steps on the small tree, without evaluations; returns the Trainer."""

    def run(model: ImageClassifier, steps: int = 4, val_size: int = 0, **options: Any) -> Trainer:
        given = trainer(max_steps=steps, **{"limit_val_batches": 0, **options})
        given.fit(model, data(val_size=val_size))
        return given

    return run


class Record(Logger):
    """A logger that keeps the points that it is given, each with its step."""

    name, version = "record", 0

    def __init__(self) -> None:
        super().__init__()
        self.points: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.points.append({"step": step or 0, **metrics})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.fixture
def record() -> Record:
    return Record()
