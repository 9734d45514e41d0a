"""``cifar-lab check-gradients``: its table and its exit statuses."""

from cifar_lab.cli import main
from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.torch_cases import TORCH_CASES
from cifar_lab.numpy_reference.activations import ReLU


def test_every_layer_is_proved(capsys):
    assert main(["check-gradients"]) == 0
    output = capsys.readouterr().out
    rows = [line.split() for line in output.splitlines()[3:-2]]
    assert {row[0] for row in rows} == cases.CASES.keys() | TORCH_CASES.keys()
    assert {row[-1] for row in rows} == {"right"}
    assert output.endswith(f"{len(rows)} rows, none wrong.\n")


def test_layer_flag_prints_that_layer_alone(capsys):
    assert main(["check-gradients", "--layer", "linear", "--dtype", "float32"]) == 0
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
    assert main(["check-gradients", "--layer", "relu"]) == 1
    right, wrong, _, total = capsys.readouterr().out.splitlines()[3:]
    assert right.endswith("right")
    assert wrong.endswith("WRONG")
    assert total == "2 rows, 1 wrong."
