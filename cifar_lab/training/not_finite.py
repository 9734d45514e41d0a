"""A loss or weights that are not finite end the run, before they replace a good checkpoint.

They are looked for where the training curves have a point, which waits for the device anyway, and
before a checkpoint is saved. A gradient that is not finite makes weights that are not, so it is
found with them; one that mixed precision leaves out by design is not.
"""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm

from cifar_lab.models.classifier import ImageClassifier


class NotFiniteError(ArithmeticError):
    """The training failed: the message says at which step, in which layer, at which rate."""


class FiniteCheck(Callback):
    """Looks at loss and weights where the training curves have a point.

    Raises:
        NotFiniteError: one of them is not finite.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: ImageClassifier,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Looks, where a point is due."""
        if pl_module.is_point_due(pl_module.global_step):
            check_finite(pl_module, trainer)


def check_finite(model: ImageClassifier, trainer: Trainer) -> None:
    """Looks at the losses since the last point and at all weights; waits for the device.

    Raises:
        NotFiniteError: one of them is not finite.
    """
    finite_steps = model.finite_steps()
    broken = _not_finite(_tensors(model))
    if finite_steps is None and not broken:
        return
    step = trainer.global_step if finite_steps is None else finite_steps + 1
    what = "weights are" if finite_steps is None else "the loss is"
    broken = broken or _not_finite(model.gradients())
    where = f"first in {broken[0]} of {len(broken)}" if broken else "all weights are finite"
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    raise NotFiniteError(f"step {step:,}: {what} not finite ({where}; lr {rate:g})")


def _tensors(model: LightningModule) -> dict[str, Tensor]:
    """Weights and running statistics."""
    return {name: t for name, t in model.state_dict().items() if t.is_floating_point()}


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """The names of those that hold a value that is not finite; one look for all in good times."""
    if not tensors or get_total_norm(list(tensors.values())).isfinite():
        return []
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
