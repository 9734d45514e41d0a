"""ImageClassifier: the LightningModule that all models of the registry inherit from.

A model is a thin subclass with settings, around a network (``nn.Module``). Evaluations write
``loss/val`` and ``acc/val``, or ``loss/test`` and ``acc/test``; curves.py writes the curves.
"""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lab import __version__
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.data.loader import Batch
from cifar_lab.errors import UserError
from cifar_lab.internals import load_loader_states
from cifar_lab.layers.normalize import Normalize
from cifar_lab.models.calibration import Calibration
from cifar_lab.models.curves import Curves

# Format of what ``on_save_checkpoint`` adds. Format 1 also held the state of the training curves.
CHECKPOINT_FORMAT = 2

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise a UserError that says what is expected of a setting, unless ``holds``."""
    if not holds:
        raise UserError(f"{name} {value!r}: expected {expected}")


class ImageClassifier(LightningModule):
    """A network that maps images to logits, with everything that its training needs.

    Args:
        network: module from normalized float images (B, 3, 32, 32) to logits (B, num_classes).
        num_classes: number of classes of the data, at least 2.
        normalization: "mean_image" or "standardize"; see layers/normalize.py.
        optimizer: name of the optimizer: "sgd", "adam" or "adamw".
        lr: learning rate, above 0.
        weight_decay: weight decay of the optimizer, at least 0.
        label_smoothing: share of the target that is spread over all classes in training, in [0, 1);
            "Rethinking the Inception Architecture" (https://arxiv.org/abs/1512.00567), section 7.
            The training loss in the curves includes it, the loss of evaluations does not.

    Attributes:
        class_names: names of the classes; empty before the model has seen data.
        data: description of the training data; see ``CIFAR10DataModule.identity``.
        calibration: temperature and threshold of a trained model; None if they are not known.

    Raises:
        UserError: a value is out of its range.
    """

    cpu_only = False  # whether the model computes outside torch
    note = ""  # what the model chose by itself, for the header of a run
    optimizer_names: tuple[str, ...] = tuple(OPTIMIZERS)  # names that ``optimizer`` may have

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        normalization: str,
        optimizer: str,
        lr: float,
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        names = self.optimizer_names
        require(optimizer in names, "optimizer", optimizer, " or ".join(names))
        require(num_classes >= 2, "num_classes", num_classes, "at least 2")
        require(0 < lr < inf, "lr", lr, "a finite number above 0")
        require(0 <= weight_decay < inf, "weight_decay", weight_decay, "finite and at least 0")
        require(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "at least 0, below 1")
        self.optimizer_name, self.lr, self.weight_decay = optimizer, lr, weight_decay
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.class_names: tuple[str, ...] = ()
        self.data: dict[str, Any] = {}
        self.calibration: Calibration | None = None
        self.normalize = Normalize(normalization)
        self.network = network
        self.example_input_array = torch.zeros(2, *IMAGE_SHAPE, dtype=torch.uint8)

    def forward(self, images: Tensor) -> Tensor:
        """Map raw uint8 images (B, 3, 32, 32) to logits (B, num_classes)."""
        return self.network(self.normalize(images))

    def on_train_start(self) -> None:
        """Restore the position of the loaders when a run is resumed."""
        load_loader_states(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the ``loss`` () of a batch, and for the curves its ``logits`` (B, num_classes)."""
        loss, logits = self.loss_and_logits(*batch)
        return {"loss": loss, "logits": logits.detach()}

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the training loss, the mean cross entropy (), and the logits (B, num_classes)."""
        logits = self.training_logits(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss, logits

    def training_logits(self, images: Tensor) -> Tensor:
        """Map raw uint8 images (B, 3, 32, 32) to logits (B, num_classes) in training."""
        return self(images)

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the network's parameters by name, without missing ones."""
        parameters = self.network.named_parameters()
        return {name: found.grad for name, found in parameters if found.grad is not None}

    def cost_of_steps(self, step: int) -> float:
        """Return the cost of the first ``step`` training steps, in units of a usual step.

        The remaining time is estimated from it. Override it if the steps of a model get longer or
        shorter during training.
        """
        return float(step)

    # --- evaluation: testing does the same as validation --------------------------------------

    @property
    def evaluated_split(self) -> str:
        """The split that is evaluated: "val", or "test" in a test and with ``val_size=0``."""
        data = self.trainer.datamodule
        on_test = isinstance(data, CIFAR10DataModule) and data.evaluates_on_test
        return "test" if on_test or self.trainer.testing else "val"

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the logits (B, num_classes) of a batch, in float32."""
        return self(batch[0]).float()

    def on_validation_batch_end(
        self, outputs: Tensor, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Log the metrics, which Lightning averages over all images.

        This is not part of ``validation_step``, which may be compiled. During training, the
        callback Curves writes them, since Lightning's own step number is then one too low.
        """
        if self.trainer.barebones or outputs is None:  # a subclass may have metrics of its own
            return
        labels, split = batch[1], self.evaluated_split
        scalars = {
            f"acc/{split}": (outputs.argmax(1) == labels).float().mean(),
            f"loss/{split}": F.cross_entropy(outputs, labels),
        }
        # Lightning averages the processes' numbers of images, and makes the mean an integer.
        weight = len(labels) * self.trainer.world_size
        logger = False if self.trainer.state.fn == TrainerFn.FITTING else None
        self.log_dict(scalars, batch_size=weight, sync_dist=True, logger=logger)

    test_step = validation_step
    on_test_batch_end = on_validation_batch_end

    def predict_step(
        self, batch: Batch | Tensor, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Return class probabilities (B, num_classes) for a batch, with or without labels.

        They are calibrated if ``calibration`` is known.
        """
        images = batch if isinstance(batch, Tensor) else batch[0]
        logits = self(images).float()
        return self.calibration.probabilities(logits) if self.calibration else logits.softmax(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer that the settings name."""
        return OPTIMIZERS[self.optimizer_name](
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=self.fused
        )

    @property
    def fused(self) -> bool:
        """Whether the optimizer updates all parameters in one kernel."""
        try:  # Lightning refuses to clip the gradients of such an optimizer in mixed precision
            return not self.trainer.gradient_clip_val or "mixed" not in self.trainer.precision
        except (RuntimeError, AttributeError):  # the model has no Trainer, but perhaps a Fabric
            return True

    @property
    def hparams_initial(self) -> Any:
        """The settings for the loggers; safe YAML cannot read tuples, so these become lists."""
        settings = super().hparams_initial
        return settings | {k: list(v) for k, v in settings.items() if isinstance(v, tuple)}

    def check_trainer(self, trainer: Trainer) -> None:
        """Raise a UserError if the model cannot work with a Trainer; a subclass may override it."""

    def configure_callbacks(self) -> list[Callback]:
        """Return a callback for the training curves, unless the Trainer already has one."""
        there = any(isinstance(callback, Curves) for callback in self.trainer.callbacks)
        return [] if there else [Curves()]

    def setup(self, stage: str) -> None:
        """Store the class names of the data and, unless the model has some, their statistics."""
        self.check_trainer(self.trainer)
        data = self.trainer.datamodule
        if not isinstance(data, CIFAR10DataModule):
            return
        if data.num_classes != self.num_classes:
            raise UserError(
                f"the model has {self.num_classes} classes, the data have {data.num_classes}; "
                f"build it with num_classes={data.num_classes}"
            )
        self.class_names = data.image_set.class_names
        if stage == "fit":
            self.data = data.identity
        if not self.normalize.filled:
            self.normalize.fill(*data.statistics(self.normalize.kind))

    @property
    def origin(self) -> dict[str, Any]:
        """What an evaluation needs besides the weights: model class, class names and data."""
        kind = type(self)
        ours = kind.__module__.startswith("cifar_lab.models.")
        return {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "model": kind.__name__ if ours else f"{kind.__module__}:{kind.__qualname__}",
            "class_names": list(self.class_names),
            "data": self.data,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what an evaluation needs besides the weights, and the device of the training."""
        checkpoint["cifar_lab"] = {
            **self.origin,
            "processes": self.trainer.world_size,
            "device": self.trainer.strategy.root_device.type,
            "precision": str(self.trainer.precision),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the class names, the description of the data, and the calibration."""
        added = checkpoint.get("cifar_lab", {})
        self.class_names = tuple(added.get("class_names", ()))
        self.data = dict(added.get("data", {}))
        if added.get("calibration"):
            self.calibration = Calibration(**added["calibration"])
