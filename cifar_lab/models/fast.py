"""What the models made for speed share: rates for each part of the network, and their schedule."""

from __future__ import annotations

from math import inf
from typing import Any

from torch import nn
from torch.optim import AdamW

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.errors import UserError
from cifar_lab.models.replayed import ReplayedClassifier
from cifar_lab.optimizers.muon import Muon
from cifar_lab.optimizers.schedule import triangle


class FastClassifier(ReplayedClassifier):
    """An ImageClassifier whose rates rise and fall in a straight line.

    Args:
        network: with a linear layer ``head`` at its end.
        optimizer: "muon", "sgd" (Nesterov's momentum on the weights too) or "adamw" (one rate and
            one weight decay for all).
        lr: highest rate of the weights, all parameters of two dimensions or more but the head's.
        bias_lr: highest rate of all vectors; not of "adamw".
        head_lr: highest rate of the head's weight; not of "adamw".
        momentum: of "muon" and "sgd", in [0, 1).
        warmup: share of the steps in which the rates rise, in [0, 1).
        weight_decay: of "adamw" as usual. Of "muon" and "sgd" the share of a parameter that a step
            at the highest rate takes off, before momentum multiplies it by 1 / (1 - momentum);
            filters that are made orthogonal have none.
        settings: as in ReplayedClassifier.

    Raises:
        UserError: a value out of its range.
    """

    optimizer_names = ("muon", "sgd", "adamw")

    def __init__(
        self,
        network: nn.Module,
        *,
        bias_lr: float,
        head_lr: float,
        momentum: float,
        warmup: float,
        **settings: Any,
    ) -> None:
        super().__init__(network, **settings)
        for name, rate in (("bias_lr", bias_lr), ("head_lr", head_lr)):
            if not 0 < rate < inf:
                raise UserError(f"{name} {rate}: expected a finite number above 0")
        for name, share in (("momentum", momentum), ("warmup", warmup)):
            if not 0 <= share < 1:
                raise UserError(f"{name} {share}: expected at least 0 and below 1")
        weight_decay = settings.get("weight_decay", 0.0)
        if self.optimizer_name != "adamw" and weight_decay >= 1 - momentum:
            raise UserError(
                f"weight_decay {weight_decay}: with {self.optimizer_name} a share of the weights "
                f"at each step; expected less than {1 - momentum:g}, 1 - momentum"
            )
        self.bias_lr, self.head_lr = bias_lr, head_lr
        self.momentum, self.warmup = momentum, warmup

    @property
    def computed_layer(self) -> nn.Module | None:
        """The first layer, where it is computed from the training images, with ``filled``."""
        return None

    def fill_computed_layer(self, data: CIFAR10DataModule) -> None:
        """Computes ``computed_layer`` from training images; of models that have one."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Computes the first layer, if it is such a one, from training images, once."""
        super().setup(stage)
        data, layer = self.trainer.datamodule, self.computed_layer
        if isinstance(data, CIFAR10DataModule) and layer is not None and not layer.filled:
            self.fill_computed_layer(data)

    def on_fit_start(self) -> None:
        """Refuses to train behind a first layer that was not computed, and is random.

        Raises:
            UserError: the images do not come from a CIFAR10DataModule.
        """
        super().on_fit_start()
        layer = self.computed_layer
        if layer is not None and not layer.filled:
            raise UserError(
                f"{type(self).__name__}: its first layer is computed from the training images of a "
                "CIFAR10DataModule; give trainer.fit one, or build the model without that layer"
            )

    def configure_optimizers(self) -> Any:
        """Gives the optimizer, its rates and their schedule.

        Raises:
            UserError: the number of steps is not known beforehand.
        """
        steps = self.trainer.estimated_stepping_batches
        if not 0 <= steps < inf:
            raise UserError(
                f"{type(self).__name__}: its learning rates are planned over the whole run; "
                "give the Trainer max_steps or max_epochs, and batches that can be counted"
            )
        optimizer = self._adamw() if self.optimizer_name == "adamw" else self._muon()
        schedule = triangle(optimizer, int(steps), self.warmup)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _adamw(self) -> AdamW:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        on_gpu = self.device.type == "cuda"
        settings = {"lr": self.lr, "weight_decay": self.weight_decay}
        return AdamW(trained, fused=self.fused, capturable=on_gpu, **settings)  # type: ignore[arg-type]

    def _muon(self) -> Muon:
        head = self.network.get_parameter("head.weight")
        trained = [p for p in self.network.parameters() if p.requires_grad]
        weights = [p for p in trained if p.ndim > 1 and p is not head]
        vectors = [p for p in trained if p.ndim == 1]
        groups: list[dict[str, Any]] = [
            {"params": weights, "lr": self.lr, "orthogonal": self.optimizer_name == "muon"},
            {"params": vectors, "lr": self.bias_lr},
            {"params": [head], "lr": self.head_lr},
        ]
        for group in groups:  # rate times decay is then the same for all
            group["weight_decay"] = self.weight_decay / group["lr"]
        return Muon(groups, self.lr, self.momentum)
