"""The base class of the models made for speed.

It gives each part of the network its own learning rate, plans the rates over the whole run, and
replays the training step on a GPU (step_graph.py).
"""

from math import inf
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.data.loader import Batch
from cifar_lab.errors import UserError
from cifar_lab.layers.principal import PrincipalComponents
from cifar_lab.layers.whitening import Whitening
from cifar_lab.models.classifier import ImageClassifier, require
from cifar_lab.models.step_graph import StepGraph
from cifar_lab.optimizers.muon import Muon
from cifar_lab.optimizers.schedule import triangle


class FastClassifier(ImageClassifier):
    """An ImageClassifier whose learning rates rise and fall linearly, with a replayed step.

    A replayed ``training_step`` includes the forward pass, the backward pass and the optimizer
    step. Callbacks see the gradients and the new weights, but too late to change either. The step
    is not replayed on several processes, with gradients that are accumulated, clipped or scaled
    (``16-mixed``), or while torch detects anomalies.

    Args:
        network: network that ends in a linear layer named ``head``.
        *shared: further arguments of ImageClassifier; three of them have a special meaning here.
        optimizer: "muon", "sgd" (Nesterov's momentum) or "adamw" (one rate for all parameters).
        lr: highest rate of the weights, which have two or more dimensions, except the head's.
        bias_lr: highest rate of all vectors; not used by "adamw".
        head_lr: highest rate of the head's weight; not used by "adamw".
        momentum: momentum of "muon" and "sgd", in [0, 1).
        warmup: share of the steps in which the rates rise, in [0, 1).
        cuda_graphs: whether to replay the step where that is possible.
        weight_decay: usual weight decay of "adamw". For "muon" and "sgd" it is the share of a
            parameter that a step at the highest rate subtracts, before momentum multiplies it by
            1 / (1 - momentum); it does not apply to filters that are made orthogonal.

    Raises:
        UserError: a value is out of its range.
    """

    optimizer_names = ("muon", "sgd", "adamw")

    def __init__(
        self,
        network: nn.Module,
        *shared: Any,
        bias_lr: float,
        head_lr: float,
        momentum: float,
        warmup: float,
        cuda_graphs: bool,
    ) -> None:
        super().__init__(network, *shared)
        for name, rate in (("bias_lr", bias_lr), ("head_lr", head_lr)):
            require(0 < rate < inf, name, rate, "a finite number above 0")
        for name, share in (("momentum", momentum), ("warmup", warmup)):
            require(0 <= share < 1, name, share, "at least 0 and below 1")
        if self.optimizer_name != "adamw" and self.weight_decay >= 1 - momentum:
            raise UserError(
                f"weight_decay {self.weight_decay}: with {self.optimizer_name} a share of the "
                f"weights at each step; expected less than {1 - momentum:g}, 1 - momentum"
            )
        self.bias_lr, self.head_lr = bias_lr, head_lr
        self.momentum, self.warmup = momentum, warmup
        self.cuda_graphs = cuda_graphs
        self.replays_step = False  # whether the current training step is replayed
        self._graph: StepGraph | None = None
        self._captured: Any = None  # the shape and the state that the graph is captured with

    # --- the computed first layer -------------------------------------------------------------

    @property
    def computed_layer(self) -> Whitening | PrincipalComponents | None:
        """The first layer, if it is computed from training images."""
        kinds = (Whitening, PrincipalComponents)
        return next((layer for layer in self.network.children() if isinstance(layer, kinds)), None)

    def fill_computed_layer(self, data: CIFAR10DataModule) -> None:
        """Compute ``computed_layer`` from training images; models that have one override this."""
        raise NotImplementedError

    def normalized(self, data: CIFAR10DataModule, chosen: np.ndarray) -> Tensor:
        """Return normalized training images (N, 3, 32, 32), by their positions (N,)."""
        images = torch.from_numpy(data.image_set.train_images[chosen])
        # Lightning moves the model to its device later.
        return self.normalize(images.to(self.normalize.mean.device))

    def setup(self, stage: str) -> None:
        """Compute the first layer from training images, once, if the model has such a layer."""
        super().setup(stage)
        data, layer = self.trainer.datamodule, self.computed_layer
        if isinstance(data, CIFAR10DataModule) and layer is not None and not layer.filled:
            self.fill_computed_layer(data)

    def on_fit_start(self) -> None:
        """Release the graph of an earlier training; raise if the first layer is still random."""
        self.replays_step, self._graph = False, None
        layer = self.computed_layer
        if layer is not None and not layer.filled:
            raise UserError(
                f"{type(self).__name__}: its first layer is computed from the training images of a "
                "CIFAR10DataModule; give trainer.fit one, or build the model without that layer"
            )

    # --- the replayed step --------------------------------------------------------------------

    @property
    def can_replay(self) -> bool:
        """Whether the training step can be replayed."""
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

    def captured_state(self) -> object:
        """Return what the training step depends on besides its batch and the weights."""
        return None

    def on_train_start(self) -> None:
        """Make the optimizer capturable on a GPU; a checkpoint may have been saved on a CPU."""
        super().on_train_start()
        for group in self.trainer.optimizers[0].param_groups:
            if "capturable" in group:
                group["capturable"] = self.device.type == "cuda"

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Decide whether to replay this step, since callbacks can change the Trainer's settings."""
        self.replays_step = self.can_replay
        if not self.replays_step:
            self._graph = None

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss and the logits; the next step may overwrite the logits."""
        if not self.replays_step:
            return super().training_step(batch, batch_idx)
        captured = batch[0].shape, self.captured_state()
        if self._graph is None or self._captured != captured:
            self._graph = None  # frees its memory before the next one allocates its own
            self._graph = StepGraph(self._train_on_batch, self.trainer.optimizers[0])
            self._captured = captured
        loss, logits = self._graph(*batch)
        return {"loss": loss.clone(), "logits": logits}

    def _train_on_batch(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute gradients, take an optimizer step, and return the loss () and logits (B, C)."""
        device, optimizer = self.device.type, self.trainer.optimizers[0]
        dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        # A capture would keep the casts that autocast caches in one step for all steps.
        with torch.autocast(device, dtype, enabled, cache_enabled=False):
            loss, logits = self.loss_and_logits(images, labels)
        with torch.autocast(device, enabled=False):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return loss.detach(), logits.detach()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, unless the training step has done so."""
        if not self.replays_step:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Clear the gradients, unless the training step has done so."""
        if not self.replays_step:
            super().optimizer_zero_grad(*args, **kwargs)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Update the weights, unless the training step, which the closure calls, does so."""
        if not self.replays_step:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        optimizer_closure()
        own = self.trainer.optimizers[0]
        for callback in self.trainer.callbacks:
            callback.on_before_optimizer_step(self.trainer, self, own)
        self.on_before_optimizer_step(own)

    def on_validation_model_zero_grad(self) -> None:
        """Clear the gradients before an evaluation, unless they are part of the graph."""
        if not self.replays_step:
            super().on_validation_model_zero_grad()

    def on_fit_end(self) -> None:
        """Release the graph."""
        self.replays_step, self._graph = False, None

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which needs a known number of steps."""
        steps = self.trainer.estimated_stepping_batches
        if not 0 <= steps < inf:
            raise UserError(
                f"{type(self).__name__}: its learning rates are planned over the whole run; "
                "give the Trainer max_steps or max_epochs, and batches that can be counted"
            )
        trained = [p for p in self.network.parameters() if p.requires_grad]
        if self.optimizer_name == "adamw":
            settings = {"lr": self.lr, "weight_decay": self.weight_decay, "fused": self.fused}
            on_gpu = self.device.type == "cuda"
            optimizer: Optimizer = AdamW(trained, capturable=on_gpu, **settings)  # type: ignore[arg-type]
        else:
            optimizer = self._muon(trained)
        schedule = triangle(optimizer, int(steps), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _muon(self, trained: list[nn.Parameter]) -> Muon:
        head = self.network.get_parameter("head.weight")
        weights = [p for p in trained if p.ndim > 1 and p is not head]
        vectors = [p for p in trained if p.ndim == 1]
        groups: list[dict[str, Any]] = [
            {"params": weights, "lr": self.lr, "orthogonal": self.optimizer_name == "muon"},
            {"params": vectors, "lr": self.bias_lr},
            {"params": [head], "lr": self.head_lr},
        ]
        for group in groups:  # so that rate times decay is the same for all
            group["weight_decay"] = self.weight_decay / group["lr"]
        return Muon(groups, self.lr, self.momentum)
