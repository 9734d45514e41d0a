"""The pieces work with Lightning's own command line, without ours."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.cli import LightningCLI

from cifar_lab import CIFAR10DataModule
from cifar_lab.models import MLP, REGISTRY
from cifar_lab.run.restore import load_model

# LightningCLI 2.6.6 calls what jsonargparse 4.5 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_words_of_the_test_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])  # LightningCLI warns of any others


class _Linked(LightningCLI):
    """A command line whose model has the classes of the data."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        names = "data.num_classes", "model.num_classes"
        parser.link_arguments(*names, apply_on="instantiate")


def _run(model: type, tree: Path, *words: str, kind: type = LightningCLI) -> LightningCLI:
    quiet = ["logger=false", "enable_progress_bar=false", "enable_model_summary=false"]
    flags = [f"--trainer.{option}" for option in ("accelerator=cpu", "log_every_n_steps=1", *quiet)]
    data = [f"--data.data_dir={tree}", "--data.batch_size=20"]
    words = ("fit", "--seed_everything=0", *flags, *data, *words)
    return kind(model, CIFAR10DataModule, args=[*words])


def test_lightning_cli_trains_a_model_whose_checkpoint_can_be_evaluated(tree: Path) -> None:
    words = ["--trainer.max_steps=3", "--model.hidden_units=[7]", "--model.num_classes=3"]
    cli = _run(MLP, tree, *words, "--data.augment=[flip]", "--data.val_size=0")
    assert cli.trainer.global_step == 3
    assert cli.model.network[1].out_features == 7
    assert cli.datamodule.evaluates_on_test
    cli.trainer.save_checkpoint("made.ckpt")
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert load_model("made.ckpt")(images).equal(cli.model.eval()(images))


@pytest.mark.parametrize("name", REGISTRY)
def test_lightning_cli_builds_every_model(name: str, tree: Path) -> None:
    cli = _run(REGISTRY[name], tree, "--trainer.fast_dev_run=true", kind=_Linked)
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert cli.model(images).shape == (2, 3)
