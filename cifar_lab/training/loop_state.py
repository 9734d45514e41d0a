"""The state of Lightning's loops in a checkpoint, written so that a resumed run repeats nothing.

Lightning 2.6.6 restores its counters, but guesses from them at which hook they were saved, and then
what to do first. For a run that is limited by ``max_steps`` it guesses wrong in three places: saved
at a step with an evaluation, that evaluation is left out; saved at the end of an epoch, the next
batch is counted to the old epoch; restored there twice, the epochs are counted wrongly. ``settle``
leaves nothing to guess: whatever was saved when, the state is that of a step that is over.
"""

from __future__ import annotations

from typing import Any


def settle(checkpoint: dict[str, Any], batches_per_epoch: float, evaluation_is_due: bool) -> None:
    """Changes the loops' state of a checkpoint, in place, to that between two steps.

    A finished epoch becomes the next one with none of its batches done.

    Args:
        checkpoint: that Lightning is about to save, after an optimizer step or before the first.
        batches_per_epoch: of the training split.
        evaluation_is_due: that the step asks for an evaluation which is not over yet; a resumed
            run begins with it.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches = loops["epoch_loop.batch_progress"]
    for counter in (batches["total"], batches["current"]):
        counter["completed"] = counter["processed"]
    if 0 < batches_per_epoch <= batches["current"]["processed"]:
        _begin_epoch(checkpoint, loops, batches)
    if evaluation_is_due:
        # An evaluation that was interrupted in its first batch; Lightning begins it anew.
        waiting = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        evaluation = loops["epoch_loop.val_loop.batch_progress"]
        evaluation.update(total=dict(waiting), current=dict(waiting), is_last_batch=False)


def _begin_epoch(
    checkpoint: dict[str, Any], loops: dict[str, Any], batches: dict[str, Any]
) -> None:
    """Ends the epoch and begins the next."""
    for counter in (loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]):
        done = counter["started"]
        counter.update(ready=done + 1, started=done + 1, processed=done, completed=done)
    epoch = loops["epoch_progress"]["current"]["completed"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
    for loader in loops["state_dict"].get("combined_loader", []):
        loader["batches"] = 0
        if loader["follows_epochs"]:  # a loader in fixed order is never told
            loader["epoch"] = epoch
    checkpoint["epoch"] = epoch
