"""Mistakes planted into a copy of the function: the check must catch every one.

They are those that the catalogue of mistakes, which tests/gradient_check/test_mistakes.py goes
through, does not have: of layers that the course lacks, at kinks, and of what is kept or written.
"""

import inspect
import sys
import textwrap

import numpy as np
import pytest

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.gradients import check_gradients
from cifar_lab.numpy_reference.activations import ELU, LeakyReLU, ReLU
from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.cross_entropy import SoftmaxCrossEntropy
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.pooling import AvgPool, MaxPool
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear

MISTAKES = {
    (ReLU, "forward"): {"gradient passes at zero": ("x > 0", "x >= 0")},
    (LeakyReLU, "forward"): {"gradient passes at zero in a leaky ReLU": ("x > 0", "x >= 0")},
    (ELU, "forward"): {"the branch of positive numbers at zero": ("x > 0", "x >= 0")},
    (ReLU, "backward"): {
        "upstream gradient overwritten": ("return dout", "dout *= positive; return dout"),
    },
    (Linear, "backward"): {
        "gradients accumulate": ("= dout.T @ x", '= self.grads.get("weight", 0) + dout.T @ x'),
    },
    (SoftmaxCrossEntropy, "backward"): {
        "forgotten 1/B in one": ("dx / len(targets)", "dx"),
        "forgotten target": ("dx[np.arange(len(targets)), targets] -= 1", "pass"),
    },
    (BatchNorm, "backward"): {
        "statistics differentiated in evaluation": ("if not batch_statistics", "if False"),
    },
    (Dropout, "backward"): {"forgotten 1/(1 - p)": ("dout * scale", "dout * (scale > 0)")},
    (WeightNormLinear, "backward"): {
        "direction's length not taken away": ("(dweight - dg * direction)", "dweight"),
    },
    (Conv3x3, "backward"): {
        "kernel not turned round": ("[:, :, ::-1, ::-1]", ""),
        "channels not exchanged": (".transpose(1, 0, 2, 3)", ""),
    },
    (MaxPool, "_scatter"): {"overlapping windows overwrite": ("+= dwindows", "= dwindows")},
    (MaxPool, "forward"): {
        "last of equals wins": (
            "windows.argmax(axis=-1)",
            "(self.kernel**2 - 1 - windows[..., ::-1].argmax(axis=-1))",
        ),
    },
    (MaxPool, "_windows"): {"zeros win in the padding": ("self.fill", "0.0")},
    (AvgPool, "backward"): {"forgotten 1/kernel²": (" / self.kernel**2", "")},
}


def builders(layer_class):
    """Return the functions that build the cases of a layer."""
    return [
        build
        for build in cases.CASES.values()
        if inspect.signature(build).parameters["layer_class"].default is layer_class
    ]


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


@pytest.mark.parametrize(
    ("where", "mistake"), [(where, name) for where, names in MISTAKES.items() for name in names]
)
def test_proof_catches_planted_mistake(where, mistake):
    wrong_class = planted(*where, *MISTAKES[where][mistake])
    assert not all(holds(wrong_class, build) for build in builders(where[0]))


@pytest.mark.parametrize("layer_class", dict.fromkeys(where[0] for where in MISTAKES))
def test_proof_lets_the_unchanged_copy_pass(layer_class):
    copy = planted(layer_class, "backward", "def backward", "def backward")
    assert builders(layer_class)
    assert all(holds(copy, build) for build in builders(layer_class))
