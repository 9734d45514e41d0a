"""The Lightning Trainer of a run, from its settings."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.profilers import Profiler
from pytorch_lightning.strategies import StrategyRegistry
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from cifar_lab.devices import device_kind
from cifar_lab.errors import UserError, first_line
from cifar_lab.parsing import unknown
from cifar_lab.settings import FitSettings
from cifar_lab.training.checkpoints import AtomicCheckpointIO
from cifar_lab.training.precision import resolve_precision


class NoProfiler(Profiler):
    """Measures nothing, in less time than Lightning's own, which makes an object for each hook."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self._nothing

    def start(self, action_name: str) -> None:
        """Does nothing."""

    def stop(self, action_name: str) -> None:
        """Does nothing."""


def build_trainer(settings: FitSettings, *, cpu_only: bool) -> Trainer:
    """Gives a Trainer without callbacks and loggers; those need the run folder, which comes later.

    Args:
        settings: of the run.
        cpu_only: the model computes on the CPU in float32, whatever "auto" would choose.

    Raises:
        UserError: hardware that is not there, or a combination that Lightning refuses.
    """
    accelerator, precision = settings.accelerator, settings.precision
    if cpu_only:
        accelerator = "cpu" if accelerator == "auto" else accelerator
        precision = "32-true" if precision == "auto" else precision
    # A run needs its callbacks, which stay in the processes that these make.
    lost = ("spawn", "fork", "notebook")
    known = StrategyRegistry.available_strategies()
    strategies = ["auto", *(name for name in known if not any(word in name for word in lost))]
    if settings.strategy not in strategies:
        raise UserError(unknown("--strategy", settings.strategy, strategies))
    device = device_kind(accelerator)
    try:
        return Trainer(
            accelerator=accelerator,
            devices=_devices(settings.devices),
            strategy=settings.strategy,
            num_nodes=settings.num_nodes,
            precision=resolve_precision(precision, device),
            max_steps=settings.max_steps or -1,
            max_epochs=settings.max_epochs or -1,
            # Batches, counted across epochs; an optimizer step takes several when accumulating.
            val_check_interval=settings.eval_every * settings.accumulate_grad_batches,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=settings.log_every,
            accumulate_grad_batches=settings.accumulate_grad_batches,
            gradient_clip_val=settings.gradient_clip_val,
            deterministic=settings.deterministic,
            profiler=settings.profiler or NoProfiler(),
            fast_dev_run=settings.fast_dev_run,
            overfit_batches=settings.overfit_batches,
            limit_train_batches=settings.limit_train_batches,
            limit_val_batches=settings.limit_val_batches,
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,  # Checkpoints does it
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError, TypeError) as error:
        raise UserError(first_line(error)) from error


def _devices(text: str) -> int | list[int] | str:
    """Reads "2" as a number of devices, "0,1" or "1," as a list of them, and "auto" as itself."""
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        if text == "auto":
            return text
        raise UserError(
            f"--devices {text}: expected a number, a list such as 0,1, or auto"
        ) from None
    return numbers if "," in text else numbers[0]
