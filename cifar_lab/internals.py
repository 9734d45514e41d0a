"""Everything that relies on undocumented parts of PyTorch and Lightning, each with its reason.

A release may change any of these without notice. ``tests/test_internals.py`` has a test for each
function here, which fails by name when that happens, and refuses such names in any other file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from torch.utils.tensorboard import SummaryWriter

# PyTorch documents its operations on lists of tensors only for functions of one argument. Its own
# optimizers use these; one kernel for all parameters is what makes a small step quick on a GPU.
foreach_add, foreach_add_ = torch._foreach_add, torch._foreach_add_
foreach_mul_, foreach_sub_ = torch._foreach_mul_, torch._foreach_sub_
foreach_norm, foreach_reciprocal_ = torch._foreach_norm, torch._foreach_reciprocal_


def cpu_computes_in_bf16() -> bool:
    """Return whether the CPU has instructions for bf16: AVX512-BF16 or AMX.

    torch 2.11 has only private functions for this; ``torch.cpu.get_capabilities`` came later.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def unscales_gradients(optimizer: Optimizer) -> bool:
    """Return whether an optimizer divides gradients by the loss scale of ``16-mixed`` itself.

    Lightning leaves the gradients of such (fused) optimizers scaled, and has no public way to ask.
    """
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def write_summaries(writer: SummaryWriter, *summaries: Any) -> None:
    """Write TensorBoard's ``Summary`` messages as they are.

    ``SummaryWriter.add_hparams`` would write them into a run of their own.
    """
    for summary in summaries:
        writer._get_file_writer().add_summary(summary)


def epoch_of_last_batch(trainer: Trainer) -> int:
    """Return the number of the epoch, from 0, that the last training batch belonged to.

    In ``on_train_end`` the public ``trainer.current_epoch`` may be the next one already.
    """
    return trainer.fit_loop.epoch_progress.current.ready - 1


def batches_done(trainer: Trainer, loader: object) -> int:
    """Return how many batches of the epoch were done when training from a loader started.

    Call it before the first batch. Lightning always restores its counter of batches, but gives a
    loader its state only if the loader was made later than that. A model that reads
    ``estimated_stepping_batches`` in ``configure_optimizers``, as Lightning's documentation
    recommends, makes the loader earlier: the resumed run would train on the first batches of the
    epoch again, and never on the last ones. For a loader of another purpose this is 0.
    """
    loaders = trainer.fit_loop._combined_loader
    if loaders is None or not any(found is loader for found in loaders.flattened):
        return 0
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed


def load_loader_states(trainer: Trainer) -> None:
    """Give the training loaders their states, where Lightning has not done so; see above.

    Call it from ``on_train_start``. It is for loaders that do not come from this package's
    DataModule.
    """
    trainer.fit_loop._load_combined_loader_states()


def settle_loops(checkpoint: dict[str, Any], batches_per_epoch: float, in_evaluation: bool) -> None:
    """Change the state of the loops in a checkpoint, in place, so that training resumes exactly.

    It is saved in an evaluation, at its end, or before the next batch. Lightning 2.6.6 guesses from
    its counters at which hook a state was saved, and then what to do first. Here the counters say
    that the last batch is over. If the state was saved in or after an evaluation, the resumed
    training ends the step, and perhaps the epoch. Otherwise that was done before the next batch
    began. An evaluation that was interrupted starts again.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches = loops["epoch_loop.batch_progress"]
    for counter in (batches["total"], batches["current"]):
        counter.update(dict.fromkeys(counter, counter["processed"]))
    batches["is_last_batch"] = 0 < batches_per_epoch <= batches["current"]["processed"]
    epochs = loops["epoch_progress"]
    if epochs["current"]["ready"] > epochs["current"]["started"]:  # the next epoch begins
        for counter in (epochs["total"], epochs["current"]):
            counter.update(dict.fromkeys(counter, counter["completed"]))
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False
    checkpoint["epoch"] = epochs["current"]["completed"] + batches["is_last_batch"]
    if in_evaluation:
        # An evaluation that was interrupted in its first batch; Lightning starts it again.
        waiting = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        evaluation = loops["epoch_loop.val_loop.batch_progress"]
        evaluation.update(total=dict(waiting), current=dict(waiting), is_last_batch=False)


def resume_epoch(trainer: Trainer) -> None:
    """Make the epoch in which training resumes start and end like any other.

    Call it from ``on_train_start``. Lightning does not restore the metrics, so at the end of that
    epoch it skips the step of a scheduler that monitors one. Before the first batch of an epoch, it
    would end a step that did not take place.
    """
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop._restarting = False
    if not loop.batch_progress.current.completed:
        loop.restarting = False
