"""What several tests of the models need."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger

from cifar_lab import CIFAR10DataModule
from cifar_lab.models import ImageClassifier


@pytest.fixture
def fit(tree: Path) -> Callable[..., Trainer]:
    """Trains a model some steps on the small tree and returns the Trainer."""

    def run(
        model: ImageClassifier, steps: int = 4, callbacks: Sequence[Callback] = (), **options: Any
    ) -> Trainer:
        quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        options = {**dict.fromkeys(quiet, False), "limit_val_batches": 0, **options}
        options = {"accelerator": "cpu", "callbacks": list(callbacks), **options}
        trainer = Trainer(max_steps=steps, **options)
        trainer.fit(model, CIFAR10DataModule(tree, batch_size=20, val_size=0))
        return trainer

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
