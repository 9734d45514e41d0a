"""Worker processes that train several runs side by side on one machine.

Ctrl-C reaches the first process alone, which tells the workers to stop: each finishes its step and
writes a checkpoint. They do the same where the first process is killed.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from cifar_lab.devices import usable_cpus
from cifar_lab.errors import FAILED, INTERRUPTED, TERMINATED, TrainingEndedError, UserError
from cifar_lab.plan import Plan

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with the result of the work on it, as they are done.

    Args:
        work: function that a worker calls; it, the items and the results can be pickled.
        items: what the work is done on.
        workers: number of processes.

    Raises:
        TrainingEndedError: A worker was killed, or Ctrl-C came; the other workers have stopped.
    """
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    pool = ProcessPoolExecutor(workers, context, _begin, (numbers,))
    left = list(items)
    running: dict[Future[Result], Item] = {}
    try:
        while left or running:
            while left and len(running) < workers:  # no more: what is submitted cannot be stopped
                item = left.pop(0)
                running[pool.submit(_do, work, item)] = item
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise TrainingEndedError(
            "A worker process was killed; the same command continues.", FAILED
        ) from error
    except KeyboardInterrupt:
        raise TrainingEndedError("Stopped; the runs can be resumed.", INTERRUPTED) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        _stop_children()


def _stop_children() -> None:
    """Tell the workers to finish their step, and wait for them."""
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    for child in children:
        child.join()


def _do(work: Callable[[Item], Result], item: Item) -> Result:
    """Do the work on an item; where a signal ended it, end the process too.

    It would wait for another item, and without an end if another worker was killed in such a wait.
    """
    try:
        return work(item)
    except TrainingEndedError as ended:
        if ended.status == TERMINATED:
            os._exit(TERMINATED)
        raise


def _begin(numbers: Any) -> None:
    """Prepare a worker: its own device, no output, and an end when the first process ends."""
    number = numbers.get()
    if torch.cuda.device_count() > 1:
        usual = ",".join(map(str, range(torch.cuda.device_count())))
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", usual).split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number]
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # the terminal sends Ctrl-C to a group
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the process ends
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def share_of_machine(plan: Plan, workers: int) -> Plan:
    """Return the plan for one of several workers: its share of the cores, and no progress.

    Raises:
        UserError: There are fewer devices than workers.
    """
    settings = plan.settings
    devices = torch.cuda.device_count()
    if settings.accelerator in ("auto", "gpu") and 0 < devices < workers:
        raise UserError(f"--workers {workers}: one for each device, and there are {devices}")
    threads = settings.threads or max(1, usable_cpus() // workers)
    return plan.replace(threads=threads, progress="none")
