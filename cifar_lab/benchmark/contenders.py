"""Training loops that are compared: a plain one, ours, and Lightning with a DataLoader.

All train the same network from the same seed on the same images for the same number of steps, with
the same optimizer and precision. What counts is the time of the steps; evaluations, their
checkpoints and the start-up are measured apart.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cifar_lab.benchmark.timing import Seconds, wait_for
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.devices import device_kind
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.layers.dropout import Dropout
from cifar_lab.layers.linear import Linear
from cifar_lab.layers.weight_norm import WeightNormLinear
from cifar_lab.models.classifier import OPTIMIZERS, ImageClassifier
from cifar_lab.parsing import parse_fit
from cifar_lab.training.fit import build_data, build_model, run_fit
from cifar_lab.training.trainer import hardware_of

PRECISIONS = ("32-true", "bf16-mixed")


class Setting:
    """One model with its recipe, the data, and what all contenders share.

    Args:
        recipe: to train.
        steps: of a run.
        flags: of ``scripts/fit.py``: data and hardware.

    Raises:
        UserError: data or hardware that are not there, or another precision than those of
            ``PRECISIONS``.
    """

    def __init__(self, recipe: str, steps: int, flags: list[str]) -> None:
        self.recipe, self.steps, self.flags = recipe, steps, flags
        words = ["--recipe", recipe, "--max_steps", str(steps), "--eval_every", str(steps)]
        self.words = [*words, "--val_size", "0", "--limit_val_batches", "1", *flags]
        self.plan = parse_fit(self.words)
        self.data: CIFAR10DataModule = build_data(self.plan)
        self.data.prepare_data()
        self.data.setup()
        accelerator, self.precision = hardware_of(self.plan.settings, cpu_only=False)
        self.device = torch.device(device_kind(accelerator))
        if self.precision not in PRECISIONS:
            wanted = f"expected auto, {' or '.join(PRECISIONS)}, which the plain loop has too"
            raise UserError(f"--precision {self.precision}: {wanted}")

    def model(self) -> ImageClassifier:
        """A fresh model as a person would write it, always with the same weights."""
        pl.seed_everything(0, verbose=False)
        model = build_model(self.plan, self.data)
        _without_own_layers(model)
        model.normalize.fill(*self.data.statistics(model.normalize.kind))
        return model.to(self.device)

    def optimizer(self, model: ImageClassifier) -> torch.optim.Optimizer:
        """The optimizer of the recipe as a person would write it."""
        settings = {"lr": model.lr, "weight_decay": model.weight_decay}
        return OPTIMIZERS[model.optimizer_name](model.parameters(), **settings)  # type: ignore[arg-type]

    @property
    def batch_size(self) -> int:
        """Images of a step."""
        return self.plan.settings.batch_size

    def autocast(self) -> Any:
        """The context that the precision asks for."""
        if self.precision == "bf16-mixed":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()


def plain(setting: Setting) -> Seconds:
    """The loop that a person would write in PyTorch, and nothing else; images in memory."""
    images = torch.from_numpy(setting.data.image_set.train_images).to(setting.device)
    labels = torch.from_numpy(setting.data.image_set.train_labels).to(setting.device)
    model = setting.model()
    optimizer = setting.optimizer(model)
    order = torch.randperm(len(images)).to(setting.device)
    size = setting.batch_size
    wait_for(setting.device)
    start = time.perf_counter()
    for step in range(setting.steps):
        first = step * size % (len(order) - size + 1)
        chosen = order[first : first + size]
        with setting.autocast():
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wait_for(setting.device)
    return time.perf_counter() - start


def ours(setting: Setting, folder: Path) -> Seconds:
    """``scripts/fit.py`` with all that a user gets: logger, bar, checkpoints, dashboard."""
    plan = parse_fit([*setting.words, "--progress", "bar", "--log_dir", str(folder)])
    with contextlib.redirect_stdout(io.StringIO()):
        status = run_fit(plan)
    if status:
        raise TrainingEndedError(status)
    summaries = folder.glob("*/version_*/summary.json")
    newest = max(summaries, key=lambda path: path.stat().st_mtime_ns)
    images = setting.steps * setting.batch_size
    return images / float(json.loads(newest.read_text())["images_per_second"])


def lightning(setting: Setting, folder: Path, workers: int) -> Seconds:
    """Lightning as its tutorials show it: a DataLoader, torchvision's transforms, default logs."""
    model = _TutorialModule(setting)
    loader = DataLoader(
        _Images(setting.data),
        setting.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    clock = _Clock(setting.device)
    with _silence(), contextlib.redirect_stdout(io.StringIO()):
        trainer = pl.Trainer(
            accelerator=setting.plan.settings.accelerator,
            devices=1,
            precision=setting.precision,
            max_steps=setting.steps,
            default_root_dir=folder,
            logger=pl.loggers.TensorBoardLogger(str(folder), "tutorial"),
            callbacks=[clock],
        )
        trainer.fit(model, loader)
    return clock.seconds


class _TutorialModule(pl.LightningModule):
    def __init__(self, setting: Setting) -> None:
        super().__init__()
        model = setting.model()
        self.network = model.network
        self.optimizer = setting.optimizer(model)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_acc", (logits.argmax(1) == labels).float().mean(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return self.optimizer


class _Images(Dataset[Any]):
    """Images as torchvision's CIFAR10 gives them, normalised by its transforms."""

    def __init__(self, data: CIFAR10DataModule) -> None:
        images = data.image_set.train_images.transpose(0, 2, 3, 1)
        self.images = np.ascontiguousarray(images)
        self.labels = data.image_set.train_labels.tolist()
        mean, std = data.statistics("standardize")
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((mean / 255).flatten().tolist(), (std / 255).flatten().tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index]), self.labels[index]


class _Clock(pl.Callback):
    """The time of the steps, workers' start included as a user waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        wait_for(self.device)
        self._start = time.perf_counter()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        wait_for(self.device)
        self.seconds = time.perf_counter() - self._start


@contextlib.contextmanager
def _silence() -> Any:
    """Keeps the advice of Lightning to itself."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def _without_own_layers(model: nn.Module) -> None:
    """Puts PyTorch's layers in the place of ours, which are part of what is measured."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Dropout):
                setattr(parent, name, nn.Dropout(child.p))
            if isinstance(child, Linear | WeightNormLinear):
                bias = child.bias is not None
                theirs: nn.Module = nn.Linear(child.in_features, child.out_features, bias)
                if isinstance(child, WeightNormLinear):
                    theirs = weight_norm(theirs)
                theirs.load_state_dict(child.state_dict())
                setattr(parent, name, theirs)
