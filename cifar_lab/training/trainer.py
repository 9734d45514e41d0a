"""The Lightning Trainer of a run, from its settings."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import StrategyRegistry
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from cifar_lab.devices import device_kind, resolve_precision, usable_cpus
from cifar_lab.errors import UserError, first_line
from cifar_lab.plan import RunSettings
from cifar_lab.run.checkpoint import AtomicCheckpointIO
from cifar_lab.settings import unknown
from cifar_lab.training.processes import Environment, start_others

PROCESSES_PER_CPU = 8  # more are a mistake; each has a copy of the images


class NoProfiler(PassThroughProfiler):
    """A profiler that measures nothing and creates no object for each hook, as Lightning's does."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Return a context that does nothing."""
        return self._nothing


def hardware_of(settings: RunSettings, cpu_only: bool) -> tuple[str, str]:
    """Return the accelerator, which may still be "auto", and the precision that settings mean.

    On several CPU processes "auto" means float32, since each of them would decide by its own
    timing. A ``cpu_only`` model always computes in float32.
    """
    accelerator, precision = settings.accelerator, settings.precision
    if cpu_only and accelerator == "auto":
        accelerator = "cpu"
    device = device_kind(accelerator)
    several = settings.num_nodes > 1 or settings.devices not in ("auto", "1")
    if precision == "auto" and (cpu_only or (device == "cpu" and several)):
        return accelerator, "32-true"
    return accelerator, resolve_precision(precision, device)


def build_trainer(settings: RunSettings, *, cpu_only: bool) -> Trainer:
    """Return the Trainer of a run, without callbacks and loggers.

    These need the folder of the run, which is created once the Trainer accepts the settings.

    Raises:
        UserError: The hardware is not there, or Lightning refuses the combination.
    """
    accelerator, precision = hardware_of(settings, cpu_only)
    _check_strategy(settings.strategy)
    processes = Environment(device_count(settings.devices, accelerator), settings.num_nodes)
    try:
        trainer = Trainer(
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
            plugins=[AtomicCheckpointIO(), processes],
            # Under SLURM, Lightning would resume from any hpc_ckpt_*.ckpt in this folder.
            default_root_dir=os.devnull,
            logger=False,
            enable_checkpointing=False,  # the callback Checkpoints does it
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError, TypeError, ImportError) as error:
        raise UserError(first_line(error)) from error
    rank_zero_only.rank = trainer.global_rank
    return trainer


def fit_model(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, path: Path | None = None
) -> None:
    """Train a model, from the checkpoint at a path if there is one."""
    start_others(trainer)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(first_line(error)) from error


def _check_strategy(strategy: str) -> None:
    # The first three would leave a run's callbacks in the processes that they create; the others
    # are for hardware that --accelerator does not offer.
    without = ("spawn", "fork", "notebook", "xla", "tpu")
    known = StrategyRegistry.available_strategies()
    strategies = ["auto", *(name for name in known if not any(word in name for word in without))]
    if strategy not in strategies:
        raise UserError(unknown("--strategy", strategy, strategies))


def device_count(devices: str, accelerator: str) -> int:
    """Return the number of devices on each machine that ``--devices`` means."""
    wanted, on_cpu = _devices(devices), device_kind(accelerator) == "cpu"
    most = PROCESSES_PER_CPU * usable_cpus()
    if on_cpu and wanted != "auto" and not (isinstance(wanted, int) and 0 < wanted <= most):
        expected = f"a number of processes from 1 to {most} on this CPU; lists are for GPUs"
        raise UserError(f"--devices {devices}: expected {expected}")
    if isinstance(wanted, list):
        return len(wanted)
    if isinstance(wanted, int) and wanted > 0:
        return wanted
    return torch.cuda.device_count() if device_kind(accelerator) == "cuda" else 1


def _devices(text: str) -> int | list[int] | str:
    """Read "2" as a number of devices, "0,1" or "1," as a list of them, and "auto" as itself."""
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        if text == "auto":
            return text
        expected = "a number, a list such as 0,1, or auto"
        raise UserError(f"--devices {text}: expected {expected}") from None
    return numbers if "," in text else numbers[0]
