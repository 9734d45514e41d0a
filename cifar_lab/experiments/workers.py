"""Worker processes that train several runs side by side on one machine.

Ctrl-C reaches the first process alone, which tells the workers to stop: each finishes its step and
writes a checkpoint. They do the same where the first process is killed.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from cifar_lab.devices import usable_cpus
from cifar_lab.errors import FAILED, INTERRUPTED, TrainingEndedError, UserError
from cifar_lab.plan import Plan

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with the result of the work on it, in the order of completion.

    Args:
        work: function that a worker calls with an item; both and the result can be pickled.
        items: arguments of the calls.
        workers: number of processes.

    Raises:
        UserError: The work on an item raised it; the other workers are stopped.
        TrainingEndedError: The work raised it, a worker was killed, or the user pressed Ctrl-C.
    """
    left = list(items)
    running: dict[Any, Item] = {}  # by connection
    # Python's own ProcessPoolExecutor may notice the death of a worker only when another is done.
    idle, processes = _start(work, workers)
    connections = [*idle]
    try:
        while left or running:
            while left and idle:
                connection = idle.pop()
                connection.send(left[0])
                running[connection] = left.pop(0)
            ready: list[Any] = wait(running)
            for connection in ready:
                result = connection.recv()
                if isinstance(result, Exception):
                    raise result
                idle.append(connection)
                yield running.pop(connection), result
    except (EOFError, OSError) as error:
        told = "A worker process was lost; the same command continues."
        raise TrainingEndedError(told, FAILED) from error
    except KeyboardInterrupt:
        raise TrainingEndedError("Stopped.", INTERRUPTED) from None
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.terminate()  # each finishes its step
        for process in processes:
            process.join()


def _start(work: Callable[..., Any], workers: int) -> tuple[list[Any], list[Any]]:
    """Start the workers; return the connections to them, and the processes."""
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for number in range(workers):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(work, number, theirs))
        process.start()
        theirs.close()  # so that the connection ends with the worker
        connections.append(ours)
        processes.append(process)
    return connections, processes


def _serve(work: Callable[[Any], Any], number: int, connection: Connection) -> None:
    """Work on the items received, and send back their results or errors."""
    _begin(number)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the first process needs no more
        while True:
            item = connection.recv()
            try:
                result = work(item)
            except (UserError, TrainingEndedError) as error:
                result = error
            connection.send(result)


def _begin(number: int) -> None:
    """Prepare a worker: its own device, no output, and an exit when the first process exits."""
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
        raise UserError(f"--workers {workers}: more than one for each of the {devices} devices")
    threads = settings.threads or max(1, usable_cpus() // workers)
    return plan.replace(threads=threads, progress="none")
