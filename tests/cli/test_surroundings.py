"""Commands in processes of their own, on systems that lack what most have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cifar_lab

PROGRAM = """
import sys, tempfile
if sys.argv[1] == "no temporary folder":
    tempfile._candidate_tempdir_list = lambda: ["/nowhere"]
from cifar_lab.cli import main
run = f"{sys.argv[3]}/mlp/version_0"
assert main(["fit", "--model", "mlp", "--hidden_units", "8", "--batch_size", "12", "--max_steps",
    "2", "--data_dir", sys.argv[2], "--log_dir", sys.argv[3], "--dashboard", sys.argv[4]]) == 0
loaded = {"matplotlib", "tensorboard"} & sys.modules.keys()
assert loaded == (set() if sys.argv[4] == "off" else {"matplotlib", "tensorboard"}), loaded
assert main(["evaluate", run]) == 0
assert main(["export", run, "--format", "torch"]) == 0
"""
ODD = os.fsdecode(b"caf\xe9")  # no UTF-8
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NOWHERE = {"HOME": "/nowhere", "MPLCONFIGDIR": "/proc/nowhere", "TMPDIR": "/nowhere"}
SURROUNDINGS = {  # variables of the process, folder of the runs, and kind of the dashboard
    "no variables": ({}, "logs", "full"),
    "ASCII": (ASCII, os.fsdecode("lögs".encode()), "off"),
    "no temporary folder": (NOWHERE, "logs", "full"),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there names are Unicode")
@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_a_model_is_trained_evaluated_and_exported_wherever_it_runs(kind: str, tree) -> None:
    tree.rename(ODD)
    variables, log_dir, dashboard = SURROUNDINGS[kind]
    path = {"PYTHONPATH": str(Path(cifar_lab.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, ODD, log_dir, dashboard],
        env={**path, **variables, "CIFAR_LAB_CACHE": "cache", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
    )
    told = ended.stderr.decode()
    assert ended.returncode == 0, told
    assert [line for line in told.splitlines() if not line.startswith("decoding")] == []
    assert not list(Path(log_dir).glob(".*"))
