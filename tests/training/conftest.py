"""Short runs of ``mlp`` on the small tree, through the command line."""

import shlex
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
