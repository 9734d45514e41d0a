"""A student's network: which of its gradients are wrong, however it keeps its modules."""

import pytest

from cifar_lab.gradient_check.student_check import RIGHT, WRONG
from cifar_lab.gradient_check.student_mlp import check_mlp

SOURCE = """
from cifar_lab.course import ELUModule, LinearModule, SoftMaxModule


class MLP:
    def __init__(self, n_inputs, n_hidden, n_classes):
        sizes = [n_inputs, *n_hidden, n_classes]
        self.hidden = {
            i: [LinearModule(sizes[i], sizes[i + 1]), ELUModule(0.5)] for i in range(len(n_hidden))
        }
        self.last, self.softmax = LinearModule(sizes[-2], sizes[-1]), SoftMaxModule()

    def forward(self, x):
        for linear, elu in self.hidden.values():
            x = elu.forward(linear.forward(x))
        return self.softmax.forward(self.last.forward(x))

    def backward(self, dout):
        dout = self.last.backward(self.softmax.backward(dout))
        for linear, elu in reversed(self.hidden.values()):
            dout = linear.backward(elu.backward(dout))
"""


def verdicts(source, tmp_path):
    names = {}
    exec(source, names)
    return {row.name: row.verdict for row in check_mlp(names["MLP"], tmp_path / "mlp_numpy.py")}


def test_right_network_is_right(tmp_path):
    found = verdicts(SOURCE, tmp_path)
    assert list(found) == ["output", *(f"{p} {n}" for n in "123" for p in ("weight", "bias"))]
    assert set(found.values()) == {RIGHT}


@pytest.mark.parametrize(
    ("right", "wrong", "blamed"),
    [
        ("linear.backward(elu.backward(dout))", "linear.backward(dout)", {1, 2}),
        ("self.last.backward(self.softmax.backward(dout))", "self.last.backward(dout)", {1, 2, 3}),
        ("reversed(self.hidden.values())", "[]", {1, 2}),
    ],
)
def test_gradients_behind_a_mistake_are_blamed_and_those_before_it_are_not(
    right, wrong, blamed, tmp_path
):
    found = verdicts(SOURCE.replace(right, wrong), tmp_path)
    assert {int(name[-1]) for name in found if found[name] == WRONG} == blamed


def test_output_without_softmax_is_wrong(tmp_path):
    source = SOURCE.replace("self.softmax.forward(self.last.forward(x))", "self.last.forward(x)")
    assert verdicts(source, tmp_path) == {"output": WRONG}


def test_network_without_linear_modules_is_wrong(tmp_path):
    source = "class MLP:\n def __init__(self, *sizes): pass\n"
    assert verdicts(source, tmp_path) == {"output": WRONG}
