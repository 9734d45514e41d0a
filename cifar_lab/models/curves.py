"""The training curves of a LightningModule: when they have a point, and what it says.

Tags of the scalars: ``loss/train``, ``acc/train``, ``lr``, ``epoch`` (from 0) and
``speed/images_per_second``; their x axis is the number of optimizer steps done. Points are means
since the point before, written at the first, every Nth (the Trainer's ``log_every_n_steps``) and
the last step; ``lr`` is that of the step to come. Lightning's own logging would number them from 0
and format them in every step.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
from pytorch_lightning import LightningModule

from cifar_lab.data.loader import Batch
from cifar_lab.models.meter import TrainingMeter


class CurvesModule(LightningModule):
    """A LightningModule that writes the points of its training curves.

    Its ``training_step`` gives each batch to ``self.meter.update``.

    Attributes:
        meter: gathers what the points say.
    """

    def __init__(self) -> None:
        super().__init__()
        self.meter = TrainingMeter()
        self._last_logged = self._final_step = 0
        self._goes_on = False  # from a checkpoint, until training begins

    def on_train_start(self) -> None:
        """Notes where the curves begin and end."""
        if not self._goes_on:
            self._last_logged = self.global_step
            self.meter.clear()  # of what a run before left
        self._goes_on = False
        self._final_step = self.trainer.estimated_stepping_batches
        self.meter.start()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Writes a point of the training curves where one is due."""
        self.write_due_point()

    def write_due_point(self) -> None:
        """Writes the point of this step, if there is one and it was not written yet."""
        if self.is_point_due(self.global_step) and self.global_step > self._last_logged:
            scalars = self._training_scalars()
            # For bars and monitors; self.log would take longer than all else in a small step.
            tensors = {name: torch.tensor(value) for name, value in scalars.items()}
            tensors.pop("epoch")  # which Lightning's own callbacks know better
            self.trainer.callback_metrics.update(tensors)
            self.to_loggers(scalars)

    def is_point_due(self, step: int) -> bool:
        """Whether the training curves have a point at this number of optimizer steps.

        Where the Trainer's ``log_every_n_steps`` is 0, as in barebones mode, they have none.
        """
        every = self.trainer.log_every_n_steps
        return every > 0 and (step in (1, self._final_step) or step % every == 0)

    def on_train_end(self) -> None:
        """Writes the last point of a run that ended before it was expected to."""
        writes = self.trainer.log_every_n_steps > 0
        if writes and self.global_step > self._last_logged and self.meter.sums()[2]:
            # Lightning may have counted the epoch already.
            epoch = self.trainer.fit_loop.epoch_progress.current.ready - 1
            self.to_loggers({**self._training_scalars(), "epoch": float(epoch)})

    def finite_steps(self) -> int | None:
        """The last step before the loss was not finite, or None where it is; waits for the device.

        Looks back to the last point of the curves. Of several processes, the mean of their steps.
        """
        sums = self._total_sums()
        if isfinite(sums[0]):
            return None
        batches = int(sums[3]) // self.trainer.world_size
        return self._last_logged + batches // self.trainer.accumulate_grad_batches

    def curves_state(self) -> dict[str, Any]:
        """What the curves of a run that goes on need, in plain values."""
        return {"last_logged": self._last_logged, **self.meter.state_dict(self._total_sums())}

    def load_curves_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self._goes_on = True
        self._last_logged = state["last_logged"]
        # The sums are of all processes together: the first one goes on with them.
        self.meter.load_state_dict(state, empty=not self.trainer.is_global_zero)

    def to_loggers(self, scalars: dict[str, float]) -> None:
        """Gives scalars to all loggers, at the present step."""
        for logger in self.trainer.loggers:
            logger.log_metrics(scalars, step=self.global_step)

    def _total_sums(self) -> list[float]:
        """The meter's sums over all processes; leaves those of this one as they are."""
        sums = self.meter.sums()
        if self.trainer.world_size == 1:
            return sums
        total = torch.tensor(sums, dtype=torch.float64, device=self.device)
        return self.trainer.strategy.reduce(total, reduce_op="sum").tolist()

    def _training_scalars(self) -> dict[str, float]:
        sums = self._total_sums()
        self._last_logged = self.global_step
        group = self.trainer.optimizers[0].param_groups[0]
        epoch = float(self.trainer.current_epoch)
        return {**self.meter.read(sums), "lr": float(group["lr"]), "epoch": epoch}
