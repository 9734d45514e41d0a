"""The training curves as a callback, which decides when a point is due and computes it.

Tags of the scalars: ``loss/train``, ``acc/train``, ``lr``, ``epoch`` (from 0) and
``speed/images_per_second``; their x axis is the number of optimizer steps done. A point is the mean
since the previous point. Points are written at the first, every Nth (the Trainer's
``log_every_n_steps``) and the last step; ``lr`` is that of the next step. Lightning's own logging
would number points from 0 and format them in every step.

A point waits for the device, so it is also the place to look for losses and weights that are not
finite. A gradient that is not finite makes such weights, unless mixed precision skips it.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.utils import get_total_norm

from cifar_lab.data.loader import Batch
from cifar_lab.errors import UserError
from cifar_lab.internals import epoch_of_last_batch
from cifar_lab.models.meter import TrainingMeter


class NotFiniteError(ArithmeticError):
    """A training failed; the message names the step, the layer and the learning rate."""


class Curves(Callback):
    """Write the points of the training curves to all loggers and to ``callback_metrics``.

    The model's ``training_step`` must return ``{"loss": loss, "logits": logits}``, as that of
    ImageClassifier does. The clock of the speed stands still during evaluations. Callbacks that
    save checkpoints run later, so that checkpoints hold the newest state.

    Args:
        stop_if_not_finite: whether to call ``check_finite`` before each point.

    Attributes:
        meter: the measurements since the last point.
        stopped: context manager in which the clock stands still.
        overall_images: training images up to the last point.
        overall_seconds: seconds of training up to the last point, without evaluations.
    """

    trainer: Trainer  # the last Trainer that set up the callback

    def __init__(self, stop_if_not_finite: bool = False) -> None:
        self.stop_if_not_finite = stop_if_not_finite
        self.meter = TrainingMeter()
        self.stopped = self.meter.stopped
        self.overall_images = self.overall_seconds = 0.0
        self._last_point = self._final_step = 0  # numbers of optimizer steps
        self._resumed = False  # whether a state was loaded for the next training

    @property
    def overall_speed(self) -> float:
        """Training images per second up to the last point."""
        return self.overall_images / self.overall_seconds if self.overall_seconds else 0.0

    def is_point_due(self, step: int) -> bool:
        """Return whether the curves have a point at this number of optimizer steps."""
        every = self.trainer.log_every_n_steps  # 0 in barebones mode: no points
        return every > 0 and (step in (1, self._final_step) or step % every == 0)

    def write_due_point(self, trainer: Trainer) -> None:
        """Write the point of the current step, if it is due and was not written yet."""
        step = trainer.global_step
        if step <= self._last_point or not self.is_point_due(step):
            return
        if self.stop_if_not_finite:
            self.check_finite(trainer)
        self._write_point(trainer, trainer.current_epoch)

    def _write_point(self, trainer: Trainer, epoch: int) -> None:
        """Write a point of the current step, unless all steps since the last one were skipped."""
        loss, correct, count, _ = self._total_sums()
        if not count:
            return
        seconds = self.meter.seconds()  # after waiting for the device
        scalars = {
            "loss/train": loss / count,
            "acc/train": correct / count,
            "speed/images_per_second": count / seconds if seconds else 0.0,
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
        }
        self.meter.clear()
        self.overall_images += count
        self.overall_seconds += seconds
        self._last_point = trainer.global_step
        # For progress bars and monitors; self.log would take longer than the rest of a small step.
        # The epoch is left out, since Lightning's own callbacks know it better.
        trainer.callback_metrics.update({k: torch.tensor(value) for k, value in scalars.items()})
        to_loggers(trainer, {**scalars, "epoch": float(epoch)})

    def check_finite(self, trainer: Trainer) -> None:
        """Check the losses since the last point and all weights; waits for the device.

        Raises:
            NotFiniteError: one of them is not finite.
        """
        model = cast(Any, trainer.lightning_module)
        loss, _, _, finite_batches = self._total_sums()
        weights = {name: t for name, t in model.state_dict().items() if t.is_floating_point()}
        broken = _not_finite(weights)
        if isfinite(loss) and not broken:
            return
        step, what = trainer.global_step, "weights are"
        if not isfinite(loss):
            # With several processes, this is the mean of the steps up to their first such loss.
            batches = int(finite_batches) // trainer.world_size
            step = self._last_point + batches // trainer.accumulate_grad_batches + 1
            what = "the loss is"
        broken = broken or _not_finite(model.gradients())
        where = f"first in {broken[0]} of {len(broken)}" if broken else "all weights are finite"
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        raise NotFiniteError(f"step {step:,}: {what} not finite ({where}; lr {rate:g})")

    def _total_sums(self) -> list[float]:
        """Return the meter's sums over all processes, without changing this process's own."""
        sums = self.meter.sums()
        if self.trainer.world_size == 1:
            return sums
        strategy = self.trainer.strategy
        total = torch.tensor(sums, dtype=torch.float64, device=strategy.root_device)
        return strategy.reduce(total, reduce_op="sum").tolist()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the Trainer, which is needed to save and load the state."""
        self.trainer = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the curves, or continue those of a checkpoint, and start the clock."""
        if not self._resumed:
            self._last_point = trainer.global_step
            self.meter.clear()  # an earlier training may have left values in it
        self._resumed = False
        self._final_step = trainer.estimated_stepping_batches
        self.meter.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch, unless its step was skipped, and write a point where one is due."""
        if outputs:
            if "logits" not in outputs:
                raise UserError(
                    f"{type(pl_module).__name__}.training_step: expected a dictionary with loss "
                    "and logits, from which the training curves are computed"
                )
            loss = outputs["loss"]
            if trainer.accumulate_grad_batches > 1:  # Lightning has divided it
                loss = loss * trainer.accumulate_grad_batches
            self.meter.update(loss, outputs["logits"], batch[1])
        self.write_due_point(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.meter.stop()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the metrics of the evaluation, and start the clock again."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if not trainer.sanity_checking:
            write_evaluation(trainer, pl_module.evaluated_split)
        self.meter.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last point of a run that ended earlier than planned, and stop the clock."""
        if trainer.log_every_n_steps > 0 and trainer.global_step > self._last_point:
            self._write_point(trainer, epoch_of_last_batch(trainer))
        self.meter.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, in plain values; all processes must call it together."""
        return {
            "last_logged": self._last_point,
            "sums": self._total_sums(),
            "seconds": self.meter.seconds(),
            "overall": [self.overall_images, self.overall_seconds],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state in training; evaluations, which also load states, ignore it."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        self._resumed, self._last_point = True, state_dict["last_logged"]
        self.overall_images, self.overall_seconds = state_dict["overall"]
        # The sums cover all processes together, so the first process continues with them.
        sums = state_dict["sums"] if self.trainer.is_global_zero else [0.0] * 4
        self.meter.load(sums, state_dict["seconds"])


def write_evaluation(trainer: Trainer, split: str, step: int | None = None) -> None:
    """Write the metrics of the newest evaluation of a split to all loggers.

    ``step`` is that of the weights that were evaluated; None means those of now.
    """
    scalars = {}
    for name, value in trainer.callback_metrics.items():
        if name.startswith(f"acc/{split}"):
            # float32 makes 3,524 of 10,000 0.3523999; six digits suffice for 100,000 images.
            scalars[name] = round(float(value), 6)
        elif name.startswith(f"loss/{split}"):
            scalars[name] = float(value)
    if scalars:
        to_loggers(trainer, scalars, step)


def to_loggers(trainer: Trainer, scalars: dict[str, float], step: int | None = None) -> None:
    """Write scalars to all loggers, by default at the number of optimizer steps done."""
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=trainer.global_step if step is None else step)


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Return the names of tensors that hold a value that is not finite."""
    # One check covers all of them; only if it fails is each one checked.
    if not tensors or get_total_norm(list(tensors.values())).isfinite():
        return []
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
