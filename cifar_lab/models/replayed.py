"""A classifier whose whole training step is replayed as one CUDA graph, where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import Optimizer

from cifar_lab.data.loader import Batch
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.step_graph import StepGraph


class ReplayedClassifier(ImageClassifier):
    """An ImageClassifier whose training step is replayed on a GPU (models/step_graph.py).

    Then ``training_step`` does all: forward and backward pass and the optimizer's step. Callbacks
    see the gradients, and the weights after the step; what they change in them comes too late. On
    several processes, with gradients that are accumulated, clipped or scaled (``16-mixed``), and
    where anomalies are searched, it trains as every other model.

    Args:
        cuda_graphs: replay where that is possible.
        settings: as in ImageClassifier.
    """

    _replay: StepGraph | None
    _captured: object  # what the captured batches looked like

    def __init__(self, *args: Any, cuda_graphs: bool, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.cuda_graphs = cuda_graphs
        self._forget()

    @property
    def replays(self) -> bool:
        """Whether the training step is replayed."""
        trainer, clips = self.trainer, type(self).configure_gradient_clipping
        return (
            self.cuda_graphs
            and self.device.type == "cuda"
            and isinstance(trainer.strategy, SingleDeviceStrategy)
            and trainer.accumulate_grad_batches == 1
            and not trainer.gradient_clip_val
            and clips is LightningModule.configure_gradient_clipping
            and trainer.precision != "16-mixed"
            and not torch.is_anomaly_enabled()
        )

    def on_fit_start(self) -> None:
        """Forgets the graph of an earlier training, however that ended."""
        self._forget()

    def on_train_start(self) -> None:
        """Tells the optimizer whether it may be captured; a checkpoint says where it was saved."""
        super().on_train_start()
        for group in self.trainer.optimizers[0].param_groups:
            if "capturable" in group:
                group["capturable"] = self.device.type == "cuda"

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Decides for this step: callbacks can change what the Trainer does."""
        self._replaying = self.replays
        if not self._replaying:
            self._replay = None

    def on_fit_end(self) -> None:
        """Gives the memory of the graph back."""
        self._forget()

    def on_validation_model_zero_grad(self) -> None:
        """Forgets the gradients, unless they are part of the graph."""
        if not self._replaying:
            super().on_validation_model_zero_grad()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Gives the mean cross entropy of a batch."""
        if not self._replaying:
            return super().training_step(batch, batch_idx)
        images, labels = batch
        loss, logits = self._step_graph(images)(images, labels)
        loss = loss.clone()
        self.meter.update(loss, logits, labels)
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The backward pass, unless the training step has done it."""
        if not self._replaying:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Forgets the gradients, unless the training step has done it."""
        if not self._replaying:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """A step of the optimizer, unless the training step, which the closure takes, did it."""
        if not self._replaying or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        optimizer_closure()
        own = self.trainer.optimizers[0]
        for callback in self.trainer.callbacks:
            callback.on_before_optimizer_step(self.trainer, self, own)
        self.on_before_optimizer_step(own)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: no graph."""
        return {**super().__getstate__(), "_replay": None, "_captured": None}

    def captured_state(self) -> object:
        """What the training step depends on besides its batch; another one is captured anew."""
        return None

    def _forget(self) -> None:
        self._replaying = False
        self._replay = self._captured = None

    def _step_graph(self, images: Tensor) -> StepGraph:
        state = (images.shape, self.captured_state())
        if self._replay is None or self._captured != state:
            self._replay = None  # frees its memory before the next one takes its own
            self._replay = StepGraph(self._whole_step, self.trainer.optimizers[0])
            self._captured = state
        return self._replay

    def _whole_step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Trains on a batch; gives the loss () and the logits (B, C)."""
        device, optimizer = self.device.type, self.trainer.optimizers[0]
        # What autocast keeps of one step would be captured as if it held for all.
        with torch.autocast(
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        ):
            loss, logits = self.loss_and_logits(images, labels)
        with torch.autocast(device, enabled=False):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return loss.detach(), logits.detach()
