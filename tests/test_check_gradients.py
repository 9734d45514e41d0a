"""`scripts/check_gradients.py`: its table, its exit statuses, and that its help is quick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.command import main
from cifar_lab.gradient_check.torch_cases import TORCH_CASES
from cifar_lab.numpy_reference.relu import ReLU

ROOT = Path(__file__).parents[1]


def run(*flags):
    return subprocess.run(
        [sys.executable, "scripts/check_gradients.py", *flags],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_script_proves_every_layer():
    result = run()
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.split() for line in result.stdout.splitlines()[3:-2]]
    assert {row[0] for row in rows} == cases.CASES.keys() | TORCH_CASES.keys()
    assert {row[-1] for row in rows} == {"right"}
    assert result.stdout.endswith(f"{len(rows)} rows, none wrong.\n")


def test_layer_flag_prints_that_layer_alone(capsys):
    assert main(["--layer", "linear", "--dtype", "float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Relative errors in float32; allowed: 1e-05 and 1e-05."
    assert [line.split()[:3] for line in lines[3:-2]] == [
        ["linear", "output", "5×4"],
        ["linear", "x", "5×4"],
        ["linear", "weight", "4×4"],
        ["linear", "bias", "4"],
    ]


def test_wrong_gradient_is_marked_and_exits_with_1(capsys, monkeypatch):
    class Leaky(ReLU):
        def backward(self, dout):
            return super().backward(dout) + 1e-8 * dout

    monkeypatch.setitem(cases.CASES, "relu", lambda rng: cases.relu(rng, layer_class=Leaky))
    assert main(["--layer", "relu"]) == 1
    right, wrong, _, total = capsys.readouterr().out.splitlines()[3:]
    assert right.endswith("right")
    assert wrong.endswith("WRONG")
    assert total == "2 rows, 1 wrong."


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layr", "conv"], "--layr: unknown; did you mean --layer?"),
        (["--layer", "cnv"], "--layer cnv: unknown; did you mean conv?"),
        (["--dtype", "float16"], "--dtype float16: unknown; did you mean float64?"),
        (["--lay", "conv"], "--lay: unknown"),
        (["--layer"], "--layer: expected one argument"),
    ],
)
def test_wrong_flag_exits_with_2_and_the_nearest_match(flags, message, capsys):
    assert main(flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom cifar_lab.gradient_check.command import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "sys.exit(str({'torch', 'numpy'} & sys.modules.keys() or '') or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
