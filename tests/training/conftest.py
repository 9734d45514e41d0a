"""Short runs of ``mlp`` on the small tree, through the command line, and two processes."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_lab.cli import main

Fit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fit(capsys: pytest.CaptureFixture[str]) -> Fit:
    """Runs ``cifar-lab fit`` with words; gives status, output and errors."""
    return lambda *words: (main(["fit", *words]), *capsys.readouterr())


@pytest.fixture
def run(fit: Fit, tree: Path) -> Fit:
    """Trains in ``logs/mlp/version_0`` for 25 steps, unless further words say something else."""
    given = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --max_steps 25"
    return lambda *words: fit(*shlex.split(f"{given} --eval_every 10"), *words)


@pytest.fixture
def run_two() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a process that starts another one; both hash strings alike."""

    def run_python(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        options = {"capture_output": True, "text": True, "timeout": 240, "env": environment}
        done = subprocess.run([sys.executable, *words], **options)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
        return done

    return run_python
