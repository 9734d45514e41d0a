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

    The public ``torch.cpu.get_capabilities`` came after torch 2.11, which has private functions.
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


def evaluation_follows(trainer: Trainer) -> bool:
    """Return whether an evaluation follows the batch that has just been trained on.

    Call it from ``on_train_batch_end``. Lightning decides this after that hook.
    """
    batches = trainer.fit_loop.total_batch_idx + 1
    return bool(trainer.should_stop or batches % trainer.val_check_batch == 0)


def epoch_of_last_batch(trainer: Trainer) -> int:
    """Return the number of the epoch, from 0, that the last training batch belonged to.

    In ``on_train_end`` the public ``trainer.current_epoch`` may be the next one already.
    """
    return trainer.fit_loop.epoch_progress.current.ready - 1


def batches_done(trainer: Trainer, loader: object) -> int:
    """Return how many batches of its epoch the training from a loader has had at its start.

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

    Call it from ``on_train_start``. It serves loaders that do not come from a DataModule of ours.
    """
    trainer.fit_loop._load_combined_loader_states()


def settle_loops(
    checkpoint: dict[str, Any], batches_per_epoch: float, evaluation_is_due: bool
) -> None:
    """Change the state of the loops in a checkpoint, in place, to that between two steps.

    Lightning 2.6.6 restores its counters, but guesses from them at which hook they were saved, and
    then what to do first. It guesses wrong in three places: saved at a step with an evaluation,
    that evaluation is left out; saved at the end of an epoch, the next batch is counted to the old
    epoch; restored there twice, the epochs are counted wrongly. This leaves nothing to guess: the
    state is that of a step that is over, and a finished epoch is the next one with no batch done.
    A resumed run begins with an evaluation that is due and not over yet.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches = loops["epoch_loop.batch_progress"]
    for counter in (batches["total"], batches["current"]):
        counter["completed"] = counter["processed"]
    if 0 < batches_per_epoch <= batches["current"]["processed"]:
        _begin_next_epoch(checkpoint)
    if evaluation_is_due:
        # An evaluation that was interrupted in its first batch; Lightning begins it anew.
        waiting = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        evaluation = loops["epoch_loop.val_loop.batch_progress"]
        evaluation.update(total=dict(waiting), current=dict(waiting), is_last_batch=False)


def _begin_next_epoch(checkpoint: dict[str, Any]) -> None:
    loops = checkpoint["loops"]["fit_loop"]
    for counter in (loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]):
        done = counter["started"]
        counter.update(ready=done + 1, started=done + 1, processed=done, completed=done)
    batches = loops["epoch_loop.batch_progress"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
    checkpoint["epoch"] = loops["epoch_progress"]["current"]["completed"]
