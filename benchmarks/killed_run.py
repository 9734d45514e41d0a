"""A run of ``cifar-lab fit`` that is killed and resumed, and the comparison of two runs."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from cifar_lab.errors import UserError
from cifar_lab.run.checkpoint import read_checkpoint
from cifar_lab.run.metrics import read_rows
from cifar_lab.run.run import Run

FIT = [sys.executable, "-m", "cifar_lab", "fit"]
POLL_SECONDS = 0.002
COMPARED = ("state_dict", "optimizer_states", "global_step", "epoch")  # parts of a checkpoint
SPEED = "speed/images_per_second"
Process = subprocess.Popen[bytes]


class KilledRun:
    """A run that may be killed and resumed.

    Args:
        words: flags of ``fit``, without ``--log_dir``.
        log_dir: log folder for this run alone.

    Attributes:
        failures: what the processes printed last that ended by themselves, and not well.
        unreadable: how often a checkpoint could not be read after a kill.
    """

    def __init__(self, words: list[str], log_dir: Path) -> None:
        self._words, self._log_dir = words, log_dir
        self._seen: set[tuple[Path, int, int]] = set()
        self._kills = self._cut_off = self.unreadable = 0
        self.failures: list[str] = []

    def finish(self) -> tuple[float, float]:
        """Start or resume the run and wait for its end.

        Returns:
            The seconds that it took, and the seconds until its first checkpoint, before step 1.
        """
        start = time.monotonic()
        with self._process() as process:
            self._watch(process, lambda: bool(self._seen))
            start_up = time.monotonic() - start
            self._watch(process, lambda: False)
        if process.returncode or not self._checkpoint:
            self.failures.append(self._failure(process.returncode))
        return time.monotonic() - start, start_up

    def run_and_kill(self, delay: float, while_writing: bool) -> str:
        """Start or resume the run and kill it; return a line that says when.

        Args:
            delay: seconds until the kill, from the moment when the process has opened the run. If
                they are negative, as many seconds from the start of the process.
            while_writing: whether to wait then until a checkpoint is being written.
        """
        configs, parts = self._files("config.yaml"), self._parts()
        with self._process() as process:
            if delay >= 0:  # a process that holds the lock of its run writes the file anew
                self._watch(process, lambda: bool(self._files("config.yaml") - configs))
            end = time.monotonic() + abs(delay)
            self._watch(process, lambda: time.monotonic() >= end)
            if while_writing:
                self._watch(process, lambda: bool(self._parts() - parts), pause=0)
        if process.returncode == 0:
            return "came too late, the run was finished"
        if process.returncode != -signal.SIGKILL:
            self.failures.append(self._failure(process.returncode))
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
    def _process(self) -> Iterator[Process]:
        """Start or resume the run; at the end kill the process, unless it ended by itself."""
        words = [*self._words, "--log_dir", str(self._log_dir)]
        if found := self._checkpoint:
            words = ["--resume", str(found.parent.parent), "--progress", "none"]
        with self._output.open("wb") as file:
            process = subprocess.Popen([*FIT, *words], stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _watch(
        self, process: Process, until: Callable[[], bool], pause: float = POLL_SECONDS
    ) -> None:
        """Count the checkpoints that a process writes until something is true, or it has ended."""
        while process.poll() is None and not until():
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
        """The file of what the newest process printed."""
        return self._log_dir.with_suffix(".txt")

    @property
    def _checkpoint(self) -> Path | None:
        return next(self._log_dir.glob("*/version_*/checkpoints/last.ckpt"), None)

    def _parts(self) -> set[tuple[Path, int, int]]:
        """Return the checkpoints that are half written, or were so when a process was killed."""
        return self._files("checkpoints/last.ckpt.*part")

    def _files(self, name: str) -> set[tuple[Path, int, int]]:
        """Return the files of a name in run folders: path, inode, and time when it was written."""
        found = set()
        for path in self._log_dir.glob(f"*/version_*/{name}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.add((path, status.st_ino, status.st_mtime_ns))
        return found


# --- comparison -----------------------------------------------------------------------------------


def differences(first: Run, second: Run) -> list[str]:
    """Return what differs, bit by bit, between the ends of two runs, as lines for people.

    Weights, optimizer and counters of their last checkpoints are compared, and the tables of
    their curves without the speed.
    """
    contents = [read_checkpoint(run.checkpoint("last")) for run in (first, second)]
    found = [part for part in COMPARED if not same(*(content[part] for content in contents))]
    tables = [_rows_without_speed(run) for run in (first, second)]
    if tables[0] != tables[1]:
        found.append(f"metrics.csv: {len(tables[0])} and {len(tables[1])} rows")
    return found


def same(first: Any, second: Any) -> bool:
    """Return whether two values, perhaps with tensors in them, are the same bit by bit."""
    if isinstance(first, torch.Tensor):  # -0.0 is equal to 0.0, but has another bit
        return torch.equal(first, second) and torch.equal(first.signbit(), second.signbit())
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def _rows_without_speed(run: Run) -> list[dict[str, str]]:
    rows = read_rows(run.folder.metrics)
    return [{name: value for name, value in row.items() if name != SPEED} for row in rows]
