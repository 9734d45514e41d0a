"""Runs of ``scripts/fit.py`` as processes, and the one that is killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cifar_lab.checkpoint_file import read_checkpoint
from cifar_lab.errors import UserError

POLL_SECONDS = 0.002
PROGRAM = "import sys; from cifar_lab.cli import fit; sys.exit(fit())"  # scripts/fit.py


def run_undisturbed(words: list[str], log_dir: Path) -> tuple[float, float]:
    """Trains; gives the seconds that it took, and those before the first step.

    Raises:
        UserError: the run failed by itself.
    """
    start = time.monotonic()
    start_up = None
    with _running([*words, "--log_dir", str(log_dir)], log_dir) as process:
        while process.poll() is None:
            if start_up is None and _checkpoint(log_dir):
                start_up = time.monotonic() - start
            time.sleep(POLL_SECONDS)
    if process.returncode or start_up is None:
        raise UserError(_failure(process.returncode, log_dir))
    return time.monotonic() - start, start_up


def precision_of(log_dir: Path) -> str:
    """That of the run in a log folder, by Lightning's name."""
    checkpoint = _checkpoint(log_dir)
    assert checkpoint is not None
    return str(read_checkpoint(checkpoint)["cifar_lab"]["precision"])


class KilledRun:
    """A run that is killed and resumed.

    Args:
        words: of fit.py, without ``--log_dir``.
        log_dir: of this run alone.

    Attributes:
        unreadable: times that a checkpoint could not be read after a kill.
        failures: what the run said when it ended by itself, and not well.
    """

    def __init__(self, words: list[str], log_dir: Path) -> None:
        self._words, self._log_dir = words, log_dir
        self._seen: set[tuple[int, int]] = set()
        self._old_parts: set[tuple[Path, int]] = set()
        self._kills = self._cut_off = self.unreadable = 0
        self.failures: list[str] = []

    def run_and_kill(self, delay: float, while_writing: bool) -> str:
        """Starts or resumes the run and kills it; tells when.

        Args:
            delay: seconds until the kill, from the moment that the run is opened; a negative one
                kills after as many seconds of the start.
            while_writing: from then on, wait for a checkpoint that is being written.
        """
        self._old_parts = self._parts()
        with _running(self._next_words(), self._log_dir) as process:
            if delay >= 0:
                self._await_opening(process)
            end = time.monotonic() + abs(delay)
            while process.poll() is None and time.monotonic() < end:
                self._look()
                time.sleep(POLL_SECONDS)
            while while_writing and process.poll() is None and not self._is_writing():
                self._look()
        if process.returncode == 0:
            return "came too late, the run was finished"
        if process.returncode != -signal.SIGKILL:
            self.failures.append(_failure(process.returncode, self._log_dir))
            return f"not needed, {self.failures[-1]}"
        self._kills += 1
        return self._autopsy()

    def _await_opening(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            for lock in self._log_dir.glob("*/version_*/run.lock"):
                with contextlib.suppress(OSError):
                    if lock.read_text() == str(process.pid):
                        return
            time.sleep(POLL_SECONDS)

    def finish(self) -> None:
        """Lets the run come to its end."""
        with _running(self._next_words(), self._log_dir) as process:
            while process.poll() is None:
                self._look()
                time.sleep(POLL_SECONDS)
        if process.returncode:
            self.failures.append(_failure(process.returncode, self._log_dir))

    def counts(self) -> dict[str, int]:
        """What happened so far."""
        return {
            "kills": self._kills,
            "written": len(self._seen),
            "cut_off": self._cut_off,
            "unreadable": self.unreadable,
        }

    def _next_words(self) -> list[str]:
        found = _checkpoint(self._log_dir)
        if found is None:
            return [*self._words, "--log_dir", str(self._log_dir)]
        return ["--resume", str(found.parent.parent), "--progress", "none"]

    def _look(self) -> None:
        """Counts a checkpoint that was not there before."""
        if found := _checkpoint(self._log_dir):
            status = found.stat()
            self._seen.add((status.st_ino, status.st_mtime_ns))

    def _is_writing(self) -> bool:
        return bool(self._parts() - self._old_parts)

    def _parts(self) -> set[tuple[Path, int]]:
        """Checkpoints that are, or were when a process died, half written."""
        found = set()
        for path in self._log_dir.glob("*/version_*/checkpoints/last.ckpt.part"):
            with contextlib.suppress(FileNotFoundError):
                found.add((path, path.stat().st_ctime_ns))
        return found

    def _autopsy(self) -> str:
        writing = ", a checkpoint half written" if self._is_writing() else ""
        self._cut_off += bool(writing)
        found = _checkpoint(self._log_dir)
        if found is None:
            return f"before the first checkpoint{writing}"
        try:
            return f"checkpoint at step {read_checkpoint(found)['global_step']:,}{writing}"
        except UserError as error:
            self.unreadable += 1
            return str(error)


@contextlib.contextmanager
def _running(words: list[str], log_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of fit.py; killed at the end, whatever ends this, unless it ended by itself."""
    command = [sys.executable, "-c", PROGRAM, *words]
    with _output(log_dir).open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _failure(status: int, log_dir: Path) -> str:
    told = _output(log_dir).read_text("utf-8", "replace").strip().split("\n")[-1]
    return f"fit.py ended with status {status}: {told}"


def _output(log_dir: Path) -> Path:
    """What the newest process said."""
    return log_dir.with_suffix(".txt")


def _checkpoint(log_dir: Path) -> Path | None:
    return next(log_dir.glob("*/version_*/checkpoints/last.ckpt"), None)
