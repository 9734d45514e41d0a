"""The classes of the course that are checked, and the cases of each check."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.case import Case, Rng
from cifar_lab.gradient_check.student_adapters import (
    ArrayLayer,
    LossLayer,
    torch_function,
    torch_module,
)

Adapt = Callable[[Any, Case], Any]
ROWS = ((6, 5), (4, 4), (1, 4), (3, 1))
NORM_SHAPES = ((7, 3), (4, 4), (1, 5), (1, 1))
ALPHA, SLOPE = 0.5, 0.2
EPS = 0.1  # so large that a misplaced ε shows


@dataclass(frozen=True)
class Kind:
    """How a class of the course is checked.

    Attributes:
        layer: name of the layer in the catalogue of mistakes.
        adapt: function that makes a layer with a case's parameters from the class and the case.
        builds: functions of a random generator that build cases of common and extreme sizes.
    """

    layer: str
    adapt: Adapt
    builds: Sequence[Callable[[Rng], Case]]


def _made_with(*arguments: float) -> Adapt:
    """Return the adapter of a NumPy module whose constructor takes these arguments."""
    return lambda cls, case: ArrayLayer(cls(*arguments), case.params)


def _linear(cls: Any, case: Case) -> ArrayLayer:
    n_outputs, n_inputs = case.params["weight"].shape
    return ArrayLayer(cls(n_inputs, n_outputs), case.params)


def _large_logits(rng: Rng) -> Case:
    """Build a softmax of logits that overflow, and that float32 holds exactly.

    A small step would be lost beside them, so there are no central differences.
    """
    case = cases.softmax(rng, 3, 5)
    return replace(case, x=np.round(64 * case.x) / 64 + 1000, smooth=False)


def _elu(adapt: Adapt, alpha: float) -> Kind:
    return Kind("elu", adapt, [partial(cases.elu, shape=shape, alpha=alpha) for shape in ROWS])


def _norms(name: str) -> dict[str, Kind]:
    """Return the kinds of the three forms of batch or layer normalization."""
    build = cases.batch_norm if name == "Batch" else cases.layer_norm
    builds = [partial(build, shape=shape, eps=EPS) for shape in NORM_SHAPES]
    forms = {"Autograd": torch_module, "ManualFunction": torch_function}
    return {
        f"Custom{name}Norm{form}": Kind(f"{name.lower()}_norm", adapt, builds)
        for form, adapt in {**forms, "ManualModule": torch_module}.items()
    }


KINDS: dict[str, Kind] = {
    "LinearModule": Kind(
        "linear",
        _linear,
        [
            partial(cases.linear, b=b, m=m, n=n)
            for b, m, n in ((7, 5, 3), (6, 4, 4), (3, 2, 3), (1, 3, 2), (3, 1, 1))
        ],
    ),
    "ReLUModule": Kind("relu", _made_with(), [partial(cases.relu, shape=shape) for shape in ROWS]),
    "LeakyReLUModule": Kind(
        "leaky_relu",
        _made_with(SLOPE),
        [partial(cases.leaky_relu, shape=shape, slope=SLOPE) for shape in ROWS],
    ),
    "ELUModule": _elu(_made_with(ALPHA), ALPHA),
    "SoftMaxModule": Kind(
        "softmax",
        _made_with(),
        [*(partial(cases.softmax, b=b, c=c) for b, c in ((6, 4), *ROWS[1:])), _large_logits],
    ),
    "CrossEntropyModule": Kind(
        "cross_entropy",
        lambda cls, _: LossLayer(cls),
        [partial(cases.cross_entropy, b=b, c=c) for b, c in ((6, 4), (5, 5), (1, 3), (2, 9))],
    ),
    **_norms("Batch"),
    **_norms("Layer"),
}
"""How each class is checked, by its name."""

ELU_WITHOUT_ARGUMENT = _elu(_made_with(), 1.0)
"""How ``ELUModule()`` of the edition of 2020 is checked."""


def kind_of(name: str, cls: Any) -> Kind:
    """Return how a student's class is checked."""
    has_argument = name != "ELUModule" or inspect.signature(cls).parameters
    return KINDS[name] if has_argument else ELU_WITHOUT_ARGUMENT
