"""Typical mistakes, each planted into a copy of the function: the check must catch every one."""

import inspect
import sys
import textwrap

import numpy as np
import pytest

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.gradients import check_gradients
from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.cross_entropy import CrossEntropy, SoftmaxCrossEntropy
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.pooling import AvgPool, MaxPool
from cifar_lab.numpy_reference.relu import ReLU
from cifar_lab.numpy_reference.softmax import Softmax
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear

MISTAKES = {
    "transposed weight gradient": (Linear, "backward", "dout.T @ x", "x.T @ dout"),
    "mean in place of sum": (Linear, "backward", "dout.sum(axis=0)", "dout.mean(axis=0)"),
    "untransposed weight": (Linear, "backward", "dout @ weight ", "dout @ weight.T "),
    "gradients accumulate": (
        Linear,
        "backward",
        'self.grads["weight"] = dout.T @ x',
        'self.grads["weight"] = self.grads.get("weight", 0) + dout.T @ x',
    ),
    "mask from the wrong tensor": (ReLU, "backward", "dout * positive", "dout * (dout > 0)"),
    "upstream gradient overwritten": (
        ReLU,
        "backward",
        "return dout * positive",
        "dout *= positive; return dout",
    ),
    "gradient passes at zero": (ReLU, "forward", "x > 0", "x >= 0"),
    "diagonal of the Jacobian only": (
        Softmax,
        "backward",
        "p * (dout - (dout * p).sum(axis=1, keepdims=True))",
        "p * (1 - p) * dout",
    ),
    "sum over samples, not classes": (Softmax, "backward", "axis=1", "axis=0"),
    "forgotten 1/B": (CrossEntropy, "backward", "-t / p / len(p)", "-t / p"),
    "forgotten 1/B in one": (SoftmaxCrossEntropy, "backward", "dx / len(targets)", "dx"),
    "forgotten target": (
        SoftmaxCrossEntropy,
        "backward",
        "dx[np.arange(len(targets)), targets] -= 1",
        "pass",
    ),
    "Bessel's correction": (
        BatchNorm,
        "_batch",
        "(centred * centred).mean(axis=0)",
        "(centred * centred).sum(axis=0) / (len(rows) - 1)",
    ),
    "epsilon outside the root": (
        BatchNorm,
        "forward",
        "1 / np.sqrt(var + self.eps)",
        "1 / (np.sqrt(var) + self.eps)",
    ),
    "missing mean term": (BatchNorm, "backward", "- through_mean ", ""),
    "missing variance term": (BatchNorm, "backward", " - through_var", ""),
    "gamma forgotten on the way back": (
        BatchNorm,
        "backward",
        'dout * self.params["gamma"]',
        "dout",
    ),
    "statistics differentiated in evaluation": (
        BatchNorm,
        "backward",
        "if not batch_statistics",
        "if False",
    ),
    "forgotten 1/(1 - p)": (Dropout, "backward", "dout * scale", "dout * (scale > 0)"),
    "direction's length not taken away": (
        WeightNormLinear,
        "backward",
        "(dweight - dg * direction)",
        "dweight",
    ),
    "kernel not turned round": (Conv3x3, "backward", "[:, :, ::-1, ::-1]", ""),
    "channels not exchanged": (Conv3x3, "backward", ".transpose(1, 0, 2, 3)", ""),
    "overlapping windows overwrite": (MaxPool, "_scatter", "+= dwindows", "= dwindows"),
    "last of equals wins": (
        MaxPool,
        "forward",
        "windows.argmax(axis=-1)",
        "(self.kernel**2 - 1 - windows[..., ::-1].argmax(axis=-1))",
    ),
    "zeros win in the padding": (MaxPool, "_windows", "self.fill", "0.0"),
    "forgotten 1/kernel²": (AvgPool, "backward", " / self.kernel**2", ""),
}
BUILDERS = {
    Linear: [cases.linear],
    ReLU: [cases.relu, cases.relu_at_zero],
    Softmax: [cases.softmax],
    CrossEntropy: [cases.cross_entropy],
    SoftmaxCrossEntropy: [cases.softmax_cross_entropy],
    BatchNorm: [cases.batch_norm, cases.batch_norm_eval],
    Dropout: [cases.dropout],
    WeightNormLinear: [cases.weight_norm],
    Conv3x3: [cases.conv],
    MaxPool: [cases.max_pool, cases.max_pool_ties],
    AvgPool: [cases.avg_pool],
}


def planted(layer_class, method, right, wrong):
    """Return the class with `wrong` in the place of `right` in the source of one method."""
    source = textwrap.dedent(inspect.getsource(getattr(layer_class, method)))
    assert source.count(right) == 1, f"{method} has {source.count(right)} times {right!r}"
    namespace = dict(vars(sys.modules[layer_class.__module__]))
    exec(source.replace(right, wrong), namespace)
    return type(layer_class.__name__, (layer_class,), {method: namespace[method]})


def holds(layer_class, build):
    """Return whether the check lets a layer pass; one that raises a ValueError does not."""
    rng = np.random.default_rng(0)
    try:
        return all(row.passed for row in check_gradients(build(rng, layer_class=layer_class), rng))
    except ValueError:
        return False


@pytest.mark.parametrize("mistake", MISTAKES)
def test_proof_catches_planted_mistake(mistake):
    layer_class, method, right, wrong = MISTAKES[mistake]
    wrong_class = planted(layer_class, method, right, wrong)
    assert not all(holds(wrong_class, build) for build in BUILDERS[layer_class])


@pytest.mark.parametrize("layer_class", BUILDERS, ids=lambda layer_class: layer_class.__name__)
def test_proof_lets_the_unchanged_copy_pass(layer_class):
    copy = planted(layer_class, "backward", "def backward", "def backward")
    assert all(holds(copy, build) for build in BUILDERS[layer_class])
