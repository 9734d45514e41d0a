"""The training loops that are compared: a plain one, this package, and Lightning's tutorial.

All of them train the same network from the same seed on the same images for the same number of
steps, with the same optimizer and precision. The time of the steps counts. Evaluations, the
checkpoints at them, and the start-up are left out.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cifar_lab.data.augment import Augmentation
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.loader import BatchLoader, Shares, Split
from cifar_lab.devices import device_kind
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.experiments.peak import wait_for
from cifar_lab.layers.dropout import Dropout
from cifar_lab.layers.weight_norm import WeightNormLinear
from cifar_lab.models.classifier import OPTIMIZERS, ImageClassifier
from cifar_lab.plan import Plan
from cifar_lab.run.run import Run
from cifar_lab.training.console import quiet
from cifar_lab.training.fit import build_model, load_data, train
from cifar_lab.training.trainer import hardware_of
from timing import Seconds

PRECISIONS = ("32-true", "bf16-mixed")


class Setting:
    """A recipe, its data, and everything that the contenders have in common.

    Args:
        recipe: name of the recipe.
        steps: number of optimizer steps in a run.
        given: settings that override those of the recipe, unchecked.

    Attributes:
        plan: plan of a run, with one batch of evaluation, at the end.
        data: DataModule of the plan, with its images.
        device: device that trains.
        precision: precision by Lightning's name, one of ``PRECISIONS``.

    Raises:
        UserError: A setting, the data, the hardware or the precision is wrong.
    """

    def __init__(self, recipe: str, steps: int, given: Mapping[str, Any]) -> None:
        usual = Plan.of(
            recipe=recipe, max_steps=steps, eval_every=steps, val_size=0, limit_val_batches=1
        )
        self.steps, self.plan = steps, usual.changed(given, "--")
        self.batch_size = self.plan.settings.batch_size
        accelerator, self.precision = hardware_of(self.plan.settings, cpu_only=False)
        self.device = torch.device(device_kind(accelerator))
        if self.precision not in PRECISIONS:
            expected = f"expected auto, {' or '.join(PRECISIONS)}, which the plain loop has too"
            raise UserError(f"--precision {self.precision}: {expected}")
        self.data: CIFAR10DataModule = load_data(self.plan)

    def model(self, seed: int = 0, **changes: Any) -> ImageClassifier:
        """Return a new model with PyTorch's own layers.

        Args:
            seed: seed of its weights.
            changes: settings of the model that differ from those of the plan.
        """
        pl.seed_everything(seed, verbose=False)
        model = build_model(self.plan.replace(**changes), self.data.num_classes)
        _use_layers_of_pytorch(model)
        model.normalize.fill(*self.data.statistics(model.normalize.kind))
        return model.to(self.device)

    def optimizer(self, model: ImageClassifier) -> torch.optim.Optimizer:
        """Return the optimizer of the recipe, with PyTorch's defaults."""
        settings = {"lr": model.lr, "weight_decay": model.weight_decay}
        return OPTIMIZERS[model.optimizer_name](model.parameters(), **settings)

    def train_tensors(self) -> tuple[Tensor, Tensor]:
        """Return the training images, uint8 (N, 3, 32, 32), and labels (N,) on the device."""
        arrays = self.data.image_set
        return self._tensors(arrays.train_images, arrays.train_labels)

    def test_tensors(self) -> tuple[Tensor, Tensor]:
        """Return the test images and labels, as ``train_tensors`` does."""
        arrays = self.data.image_set
        return self._tensors(arrays.test_images, arrays.test_labels)

    def _tensors(self, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(images).to(self.device), torch.from_numpy(labels).to(self.device)

    def loader(self, batch_size: int, augment: Augmentation | None = None) -> BatchLoader:
        """Return the package's loader of shuffled training batches."""
        images, labels = self.train_tensors()
        split = Split(images, labels, torch.arange(len(labels)), augment)
        return BatchLoader(split, batch_size, sampler=Shares(split), drop_last=True)

    def autocast(self) -> Any:
        """Return the context that the precision asks for."""
        if self.precision == "bf16-mixed":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()


def _use_layers_of_pytorch(model: nn.Module) -> None:
    """Replace the package's faster layers, which are part of what is measured, by PyTorch's."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Dropout):
                setattr(parent, name, nn.Dropout(child.p))
            if isinstance(child, WeightNormLinear):
                theirs = weight_norm(nn.Linear(child.in_features, child.out_features))
                theirs.load_state_dict(child.state_dict())
                setattr(parent, name, theirs)


def plain_loop(setting: Setting, seed: int = 0) -> Iterator[ImageClassifier]:
    """Train with a loop in PyTorch and the images in memory, without logging or saving.

    Yield the model before the first step, and after each step.
    """
    images, labels = setting.train_tensors()
    model = setting.model(seed)
    optimizer = setting.optimizer(model)
    size = setting.batch_size
    yield model
    for step in range(setting.steps):
        first = step % (len(images) // size) * size
        if first == 0:
            order = torch.randperm(len(images)).to(setting.device)
        chosen = order[first : first + size]
        with setting.autocast():
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield model


def plain(setting: Setting) -> Seconds:
    """Return the time of the steps of a plain loop."""
    loop = plain_loop(setting)
    next(loop)
    wait_for(setting.device)
    start = time.perf_counter()
    for _ in loop:
        pass
    wait_for(setting.device)
    return time.perf_counter() - start


def ours(setting: Setting, folder: Path) -> Seconds:
    """Train with this package and all its features: curves, bar, checkpoints, dashboard.

    Raises:
        TrainingEndedError: The training failed or was interrupted.
    """
    run = fit_silently(setting.plan.replace(progress="bar", log_dir=str(folder)))
    return setting.steps * setting.batch_size / run.summary["images_per_second"]


def fit_silently(plan: Plan) -> Run:
    """Train a plan without output; raise a TrainingEndedError if that fails."""
    with contextlib.redirect_stdout(io.StringIO()):
        outcome = train(plan, command="benchmark")
    if outcome.run is None or outcome.status:
        raise TrainingEndedError(outcome.message, outcome.status)
    return outcome.run


# --- Lightning as its tutorials show it -----------------------------------------------------------


def lightning(setting: Setting, folder: Path, workers: int) -> Seconds:
    """Train with a DataLoader, torchvision's transforms, and the Trainer's defaults.

    The time to start the ``workers``, which load images, counts, since users wait for it.
    """
    loader = DataLoader(
        _Images(setting.data),
        setting.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    timer = Timer()  # its time ends after the last checkpoint, which waits for the device
    quiet()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator=setting.plan.settings.accelerator,
            devices=1,
            precision=setting.precision,
            max_steps=setting.steps,
            default_root_dir=folder,
            logger=pl.loggers.TensorBoardLogger(str(folder), "tutorial"),
            callbacks=[timer],
        )
        trainer.fit(_TutorialModule(setting), loader)
    return timer.time_elapsed("train")


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
    """Images as torchvision's CIFAR10 returns them, standardised by its transforms."""

    def __init__(self, data: CIFAR10DataModule) -> None:
        self.images = np.ascontiguousarray(data.image_set.train_images.transpose(0, 2, 3, 1))
        self.labels = data.image_set.train_labels.tolist()
        mean, std = (values / 255 for values in data.statistics("standardize"))
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean.flatten().tolist(), std.flatten().tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index]), self.labels[index]
