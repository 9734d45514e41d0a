"""ImageClassifier: the LightningModule that every model of the registry is.

It owns what does not depend on the network: normalisation, loss, metrics, optimizer, and what a
checkpoint holds. A model is a network (nn.Module) and a thin subclass with typed settings.

Evaluations write ``loss/val`` and ``acc/val``, or ``…/test``; curves.py writes those of training.
"""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from cifar_lab import __version__
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.data.loader import Batch
from cifar_lab.errors import UserError
from cifar_lab.layers.normalize import Normalize
from cifar_lab.models.curves import CurvesModule

# Of what ``on_save_checkpoint`` adds to Lightning's; another format is another number.
CHECKPOINT_FORMAT = 1

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class ImageClassifier(CurvesModule):
    """A network that maps images to logits, with all that its training needs.

    Args:
        network: maps normalised float images (B, 3, 32, 32) to logits (B, num_classes).
        num_classes: of the data, at least 2.
        normalization: "mean_image" or "standardize"; see layers/normalize.py.
        optimizer: "sgd", "adam" or "adamw".
        lr: learning rate, above 0.
        weight_decay: at least 0.
        label_smoothing: share of the target that is spread over all classes in training, in [0, 1);
            "Rethinking the Inception Architecture" (https://arxiv.org/abs/1512.00567), section 7.
            The training loss that is shown contains it, that of evaluations does not.

    Raises:
        UserError: a value out of its range.
    """

    cpu_only = False  # a model that computes outside torch
    optimizer_names: tuple[str, ...] = tuple(OPTIMIZERS)  # that this model can be trained with

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        normalization: str,
        optimizer: str,
        lr: float,
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if optimizer not in self.optimizer_names:
            raise UserError(
                f"optimizer {optimizer!r}: expected {' or '.join(self.optimizer_names)}"
            )
        if num_classes < 2:
            raise UserError(f"num_classes {num_classes}: expected at least 2")
        if not 0 < lr < inf:
            raise UserError(f"lr {lr}: expected a finite number above 0")
        if not 0 <= weight_decay < inf:
            raise UserError(f"weight_decay {weight_decay}: expected a finite number of at least 0")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing {label_smoothing}: expected at least 0 and below 1")
        self.optimizer_name, self.lr, self.weight_decay = optimizer, lr, weight_decay
        self.label_smoothing = label_smoothing
        self.num_classes = num_classes
        self.class_names: tuple[str, ...] = ()
        self.data: dict[str, Any] = {}  # what it was trained on; see CIFAR10DataModule.identity
        self.normalize = Normalize(normalization)
        self.network = network
        # Every image counts once, whatever the batches ("micro"); values are checked by the data.
        self.eval_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.eval_loss = MeanMetric(nan_strategy="disable")
        self.example_input_array = torch.zeros(2, *IMAGE_SHAPE, dtype=torch.uint8)

    def forward(self, images: Tensor) -> Tensor:
        """Maps raw uint8 images (B, 3, 32, 32) to logits (B, num_classes)."""
        return self.network(self.normalize(images))

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; quickly the one in which Lightning notes the hook that it is in.

        It does so forty times a step, and torch would ask each time whether that is a parameter.
        """
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # --- training -----------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Gives the mean cross entropy of a batch."""
        images, labels = batch
        loss, logits = self.loss_and_logits(images, labels)
        self.meter.update(loss, logits, labels)
        return loss

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What is trained on: the mean cross entropy (), and the logits (B, num_classes)."""
        logits = self.training_logits(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss, logits

    def training_logits(self, images: Tensor) -> Tensor:
        """Maps raw uint8 images (B, 3, 32, 32) to logits (B, num_classes) in training."""
        return self(images)

    def gradients(self) -> dict[str, Tensor]:
        """The network's gradients by the names of its parameters; those that have one."""
        parameters = self.network.named_parameters()
        return {name: found.grad for name, found in parameters if found.grad is not None}

    # --- evaluation ---------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Stops the clock of training and clears the metrics."""
        self.meter.stop()
        self._reset_metrics()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Counts one batch and gives its logits (B, num_classes) to the callbacks."""
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Writes ``acc/val`` and ``loss/val``, or the same of the test set with ``val_size=0``."""
        self._write(self._evaluation_scalars(self.evaluated_split))
        self.meter.start()

    @property
    def evaluated_split(self) -> str:
        """What validation runs on: "val", or "test" with ``val_size=0``."""
        data = self.trainer.datamodule
        on_test = isinstance(data, CIFAR10DataModule) and data.evaluates_on_test
        return "test" if on_test else "val"

    def on_test_epoch_start(self) -> None:
        """Clears the metrics."""
        self._reset_metrics()

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Counts one batch and gives its logits (B, num_classes) to the callbacks."""
        return self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Writes ``acc/test`` and ``loss/test``."""
        self._write(self._evaluation_scalars("test"))

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """Gives class probabilities (B, num_classes) of a batch, with or without labels."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        return self(images).float().softmax(1)

    def _evaluate(self, batch: Batch) -> Tensor:
        images, labels = batch
        logits = self(images).float()
        self.eval_accuracy.update(logits, labels)
        # One by one: where it does not look for NaN, MeanMetric ignores weights (torchmetrics 1.9).
        self.eval_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        return logits

    def _reset_metrics(self) -> None:
        self.eval_accuracy.reset()
        self.eval_loss.reset()
        # With bf16-true Lightning makes its sums bf16 too, which count to 256.
        dtype = torch.promote_types(self.eval_loss.mean_value.dtype, torch.float32)
        self.eval_loss.set_dtype(dtype)

    def _evaluation_scalars(self, split: str) -> dict[str, float]:
        # float32 leaves 0.3523999 of 3,524 in 10,000; six digits tell all counts up to 100,000.
        return {
            f"acc/{split}": round(self.eval_accuracy.compute().item(), 6),
            f"loss/{split}": self.eval_loss.compute().item(),
        }

    # --- optimizer ----------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Gives the optimizer that the settings name."""
        settings = {"lr": self.lr, "weight_decay": self.weight_decay, "fused": self.fused}
        return OPTIMIZERS[self.optimizer_name](self.parameters(), **settings)  # type: ignore[arg-type]

    @property
    def fused(self) -> bool:
        """Whether the optimizer updates all parameters in one pass.

        Lightning refuses to clip the gradients of such an optimizer in mixed precision.
        """
        try:
            return not self.trainer.gradient_clip_val or "mixed" not in self.trainer.precision
        except RuntimeError:  # no Trainer yet
            return True

    # --- set-up and checkpoints ---------------------------------------------------------------

    def check_trainer(self, trainer: Trainer) -> None:
        """Refuses a trainer that this model cannot work with.

        Raises:
            UserError: here never; a subclass says why.
        """

    def setup(self, stage: str) -> None:
        """Takes the class names of the data, and their statistics if it has none yet.

        Raises:
            UserError: the data have another number of classes.
        """
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what evaluation needs besides the weights: the class, its classes, its data.

        And the counters of the training curves, for a run that goes on.
        """
        checkpoint["cifar_lab"] = {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "model": type(self).__name__,
            "class_names": list(self.class_names),
            "data": self.data,
            "processes": self.trainer.world_size,
            "device": self.trainer.strategy.root_device.type,
            "precision": str(self.trainer.precision),
            "curves": self.curves_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the class names and the description of the data, and the counters if it trains."""
        added = checkpoint.get("cifar_lab", {})
        self.class_names = tuple(added.get("class_names", ()))
        self.data = dict(added.get("data", {}))
        if self._trainer is not None and self.trainer.state.fn == "fit" and "curves" in added:
            self.load_curves_state(added["curves"])

    # --- writing ------------------------------------------------------------------------------

    def _write(self, scalars: dict[str, float]) -> None:
        """Gives scalars to callbacks (monitors, bars) and to the loggers."""
        if self.trainer.sanity_checking or self.trainer.barebones:
            return
        self.log_dict(scalars, logger=False, sync_dist=self.trainer.world_size > 1)
        self.to_loggers(scalars)
