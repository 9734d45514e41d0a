"""An evaluation at the last step, also where ``eval_every`` does not divide the number of steps."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class FinalEvaluation(Callback):
    """Asks the trainer to stop at its last step; Lightning evaluates before it stops.

    Without it Lightning evaluates every N steps only, and a run of 250 steps evaluated every 100
    would end on the numbers of step 200.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Asks for the stop at the last step."""
        if trainer.global_step >= self._last_step:
            trainer.should_stop = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learns which step is the last."""
        self._last_step = trainer.estimated_stepping_batches
