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


def hardware_of(settings: FitSettings, cpu_only: bool) -> tuple[str, str]:
    """The accelerator and the precision that settings mean.

    Args:
        settings: of the run.
        cpu_only: as for ``build_trainer``.

    Returns:
        Both by Lightning's names; the accelerator may be "auto" still. Several processes on CPUs
        get float32 of an "auto", which each of them would decide by a timing of its own.

    Raises:
        UserError: hardware that is not there.
    """
    accelerator, precision = settings.accelerator, settings.precision
    if cpu_only and accelerator == "auto":
        accelerator = "cpu"
    device = device_kind(accelerator)
    several = settings.num_nodes > 1 or settings.devices not in ("auto", "1")
    if precision == "auto" and (cpu_only or (device == "cpu" and several)):
        return accelerator, "32-true"
    return accelerator, resolve_precision(precision, device)


def build_trainer(settings: FitSettings, *, cpu_only: bool) -> Trainer:
    """Gives a Trainer without callbacks and loggers; those need the run folder, which comes later.

    Args:
        settings: of the run.
        cpu_only: the model computes on the CPU in float32, whatever "auto" would choose.

    Raises:
        UserError: hardware that is not there, or a combination that Lightning refuses.
    """
    accelerator, precision = hardware_of(settings, cpu_only)
    # A run needs its callbacks, which stay in the processes that the first three make; the others
    # are for hardware that --accelerator does not name.
    without = ("spawn", "fork", "notebook", "xla", "tpu")
    known = StrategyRegistry.available_strategies()
    strategies = ["auto", *(name for name in known if not any(word in name for word in without))]
    if settings.strategy not in strategies:
        raise UserError(unknown("--strategy", settings.strategy, strategies))
    try:
        return Trainer(
            accelerator=accelerator,
            devices=_devices(settings.devices),
            strategy=settings.strategy,
            num_nodes=settings.num_nodes,
            precision=precision,
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
    except (MisconfigurationException, ValueError, RuntimeError, TypeError, ImportError) as error:
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
