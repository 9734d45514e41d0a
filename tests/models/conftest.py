"""What several tests of the models need."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pytorch_lightning import Trainer

from cifar_lab import CIFAR10DataModule
from cifar_lab.models import ImageClassifier


@pytest.fixture
def fit(tree: Path) -> Callable[..., Trainer]:
    """Trains a model some steps on the small tree; gives the Trainer."""

    def run(model: ImageClassifier, steps: int = 4) -> Trainer:
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, CIFAR10DataModule(tree, batch_size=20, val_size=0))
        return trainer

    return run
