"""A disk that is full ends a run with a message; the last good checkpoint stays, and no scraps."""

import csv
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from cifar_lab import files
from cifar_lab.cli.main import program
from cifar_lab.run.metrics import MetricsCSV

RUN = Path("logs/mlp/version_0")
FEW = ["--hidden_units", "8", "--log_every", "5", "--progress", "none"]


def _full_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> None:
    """Makes a function fail at one of its calls and all later ones, as on a full disk."""
    original: Callable = getattr(owner, name)
    calls = 0

    def failing(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # events
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(files.os, "replace", 6), (MetricsCSV, "_append", 4), (RecordWriter, "write", 30)],
    ids=["checkpoint", "metrics", "events"],
)
def test_a_full_disk_ends_the_run_with_its_checkpoint_intact(
    run, fit, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int
) -> None:
    with monkeypatch.context() as patch:
        _full_at(patch, owner, name, call)
        dashboard = "scalars" if owner is RecordWriter else "off"
        status, _, told = run(*FEW, "--dashboard", dashboard)
    assert status == 1
    assert "cannot be written (No space left on device)" in told
    assert f"Last good checkpoint: {RUN}/checkpoints/last.ckpt, step " in told
    assert f"To resume: {program('fit')} --resume {RUN}" in told
    assert not list(RUN.rglob("*.part"))
    assert not (RUN / "summary.json").exists()
    checkpoint = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    assert f"step {checkpoint['global_step']}." in told
    assert fit("--resume", str(RUN))[0] == 0  # with space made
    with (RUN / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 5, 10, 15, 20, 25]


UNDER_A_LIMIT = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from cifar_lab.cli import main
sys.exit(main(["fit", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_a_limit_of_the_system_on_files_is_met_like_a_full_disk(run, fit) -> None:
    assert run(*FEW, "--max_steps", "10", "--dashboard", "off")[0] == 0
    path = RUN / "checkpoints" / "last.ckpt"
    before = path.read_bytes()
    limit = str(len(before) - 1)  # the real thing: no checkpoint fits, all other files do
    words = ["--resume", str(RUN), "--max_steps", "25"]
    process = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, limit, *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1, process.stderr
    assert "cannot be written (File too large)" in process.stderr
    assert "Traceback" not in process.stderr
    assert path.read_bytes() == before
    assert not list(RUN.rglob("*.part"))
    assert fit(*words)[0] == 0
