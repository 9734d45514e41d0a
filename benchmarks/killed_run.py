"""A run of ``cifar-lab fit`` that is killed and resumed, and the comparison of two runs.

A run may be one process; two, started by Lightning or as by torchrun; or the runs of ``--seeds``.
A signal goes to all processes of a run, as Ctrl-C and a scheduler's signal do. The processes are
forked from a server that has everything imported, so that each starts at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

import cifar_lab
from cifar_lab.errors import UserError
from cifar_lab.run.checkpoint import read_checkpoint
from cifar_lab.run.metrics import read_rows
from cifar_lab.run.run import Run

FIT = "import sys; from cifar_lab.cli import main; sys.exit(main(sys.argv[1:]))"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["cifar_lab.training.fit", "torch.distributed"])
# Exit statuses after a signal. Of a run of several processes, the first one's counts.
STOPPED = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}
PATIENCE = 300.0  # seconds for a run to end after a signal
POLL_SECONDS = 0.002
COMPARED = ("state_dict", "optimizer_states", "global_step", "epoch")  # parts of a checkpoint
SPEED = "speed/images_per_second"
TOO_LATE = "came too late: the run had finished"
Processes = list[BaseProcess]


class KilledRun:
    """A run that may be killed and resumed.

    Args:
        words: flags of ``fit``, without ``--log_dir``.
        log_dir: log folder for this run alone.
        mode: "torchrun" starts two processes as torchrun does; "seeds" is resumed by its own flags.

    Attributes:
        failures: last lines printed by processes that failed by themselves.
        unreadable: how often a checkpoint could not be read after a kill.
    """

    def __init__(self, words: list[str], log_dir: Path, mode: str = "one") -> None:
        self._words, self._log_dir, self._mode = words, log_dir, mode
        self._seen: set[tuple[Path, int, int]] = set()
        self._kills = self._cut_off = self.unreadable = 0
        self.failures: list[str] = []

    def finish(self) -> tuple[float, float, float]:
        """Start or resume the run and wait for its end.

        Returns:
            The seconds until the run was opened, from then until its first checkpoint, before step
            1, and from then until its end.
        """
        times = [time.monotonic()]
        with self._started() as processes:
            for until in (lambda: self._files("config.yaml"), lambda: self._seen, lambda: False):
                self._watch(processes, until)
                times.append(time.monotonic())
        if processes[0].exitcode or not self._checkpoint:
            self.failures.append(self._failure(processes[0].exitcode))
        opening, starting, training = (b - a for a, b in pairwise(times))
        return opening, starting, training

    def run_and_kill(
        self,
        delay: float,
        while_writing: bool = False,
        number: signal.Signals = signal.SIGKILL,
        after_checkpoint: bool = False,
    ) -> str:
        """Start or resume the run and send it a signal; return a line that says when.

        Args:
            delay: seconds from the opening of the run to the kill; a negative number counts from
                the start of the process.
            while_writing: whether to wait after that until a checkpoint is being written.
            number: number of the signal, a key of ``STOPPED``.
            after_checkpoint: whether the delay starts after the process has written a checkpoint.
        """
        configs, parts = self._files("config.yaml"), self._parts()
        self._seen |= self._files("checkpoints/last.ckpt")
        seen = len(self._seen)
        with self._started() as processes:
            if delay >= 0:  # a process that takes the lock of its run rewrites the file
                self._watch(processes, lambda: self._files("config.yaml") - configs)
            if after_checkpoint:
                self._watch(processes, lambda: len(self._seen) > seen)
            end = time.monotonic() + abs(delay)
            self._watch(processes, lambda: time.monotonic() >= end)
            if while_writing:
                self._watch(processes, lambda: self._parts() - parts, pause=0)
            if processes[0].exitcode is None and number != signal.SIGKILL:
                _send(processes, number)
                end = time.monotonic() + PATIENCE
                # The other one may still wait for the first, until torchrun would end it.
                self._watch(processes[:1], lambda: time.monotonic() >= end)
        status = processes[0].exitcode
        if status == 0:
            return TOO_LATE
        # Before the run is opened, Python itself may exit.
        if status not in (STOPPED[number], -number):
            self.failures.append(self._failure(status))
            return f"not needed, {self.failures[-1]}"
        self._kills += 1
        is_cut_off = bool(self._parts() - parts)
        self._cut_off += is_cut_off
        return self._state() + (", a checkpoint half written" if is_cut_off else "")

    def counts(self) -> dict[str, int]:
        """Return the numbers of kills, and of checkpoints seen, cut off and unreadable."""
        return {
            "kills": self._kills,
            "written": len(self._seen),
            "cut_off": self._cut_off,
            "unreadable": self.unreadable,
        }

    @contextlib.contextmanager
    def _started(self) -> Iterator[Processes]:
        """Start or resume the run; at the end kill its processes, unless they have exited.

        Processes that the first one starts belong to its group, which gets each signal.
        """
        words = [*self._words, "--log_dir", str(self._log_dir)]
        if (found := self._checkpoint) and self._mode != "seeds":  # which finds its runs itself
            words = ["--resume", str(found.parent.parent), "--progress", "none"]
        ranks = _environments() if self._mode == "torchrun" else [{}]
        self._output.write_bytes(b"")
        processes: Processes = [
            CONTEXT.Process(target=_child, args=(FIT, words, self._output.absolute(), rank))
            for rank in ranks
        ]
        for process in processes:
            process.start()
        try:
            yield processes
        finally:
            _send(processes, signal.SIGKILL)
            for process in processes:
                process.join()

    def _watch(
        self, processes: Processes, until: Callable[[], object], pause: float = POLL_SECONDS
    ) -> None:
        """Count the checkpoints that a run writes until a condition is true or it has ended."""
        while any(process.exitcode is None for process in processes) and not until():
            self._seen |= self._files("checkpoints/last.ckpt")
            time.sleep(pause)

    def _state(self) -> str:
        found = self._checkpoint
        if found is None:
            return "before the first checkpoint"
        try:
            return f"checkpoint at step {read_checkpoint(found)['global_step']:,}"
        except UserError as error:
            self.unreadable += 1
            return str(error)

    def _failure(self, status: int) -> str:
        last_line = self._output.read_text("utf-8", "replace").strip().split("\n")[-1]
        return f"fit ended with status {status}: {last_line}"

    @property
    def _output(self) -> Path:
        """The file with the output of the newest process."""
        return self._log_dir.with_suffix(".txt")

    @property
    def _checkpoint(self) -> Path | None:
        found = self._log_dir.glob("*/version_*/checkpoints/last.ckpt")
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)

    def _parts(self) -> set[tuple[Path, int, int]]:
        """Return the checkpoints that are half written, now or when a process was killed."""
        return self._files("checkpoints/last.ckpt.*part")

    def _files(self, name: str) -> set[tuple[Path, int, int]]:
        """Return the files of a name in run folders: path, inode, and time when it was written."""
        found = set()
        for path in self._log_dir.glob(f"*/version_*/{name}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.add((path, status.st_ino, status.st_mtime_ns))
        return found


def _child(code: str, words: list[str], output: Path, environment: dict[str, str]) -> None:
    """Run Python code as a command with words, in a process group of its own."""
    os.setsid()
    told = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(told, 1), os.dup2(told, 2)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    # The command that a process repeats to start the second one of its run.
    sys.argv = [str(Path(cifar_lab.__file__).with_name("__main__.py")), "fit", *words]
    sys.orig_argv = [sys.executable, *sys.argv]
    try:
        exec(code, {})
    except KeyboardInterrupt:  # it came before the command began; Python itself ends like this
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _environments() -> list[dict[str, str]]:
    """Return the variables that torchrun gives to each of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"GROUP_WORLD_SIZE": "1", "GROUP_RANK": "0"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "soak"}
    return [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]


def _send(processes: Processes, number: signal.Signals) -> None:
    """Send a signal to processes and to those that they started."""
    for process in processes:
        assert process.pid is not None
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has ended, or has no group yet
            if process.exitcode is None:
                os.kill(process.pid, number)


# --- comparison -----------------------------------------------------------------------------------


def differences(first: Run, second: Run) -> list[str]:
    """Return the bitwise differences between the ends of two runs, as lines of text.

    Weights, optimizer and counters of their last checkpoints are compared, and the tables of their
    curves without the speed.
    """
    contents = [read_checkpoint(run.checkpoint("last")) for run in (first, second)]
    found = [part for part in COMPARED if not same(*(content[part] for content in contents))]
    tables = [_rows_without_speed(run) for run in (first, second)]
    if tables[0] != tables[1]:
        found.append(f"metrics.csv: {len(tables[0])} and {len(tables[1])} rows")
    return found


def same(first: Any, second: Any) -> bool:
    """Return whether two values, perhaps with tensors in them, are the same bit by bit."""
    if isinstance(first, torch.Tensor):  # -0.0 is equal to 0.0, but its sign bit differs
        return torch.equal(first, second) and torch.equal(first.signbit(), second.signbit())
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def _rows_without_speed(run: Run) -> list[dict[str, str]]:
    rows = read_rows(run.folder.metrics)
    return [{name: value for name, value in row.items() if name != SPEED} for row in rows]
