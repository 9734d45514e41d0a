"""The check of a student's NumPy ``MLP``: the gradients of its linear modules, in the network.

The student chooses how to keep the modules and which activation they have. So there is no
reference, and the gradients are compared with central differences of the network's forward pass.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cifar_lab.gradient_check.case import Case
from cifar_lab.gradient_check.diagnosis import Failure, distance
from cifar_lab.gradient_check.gradients import central_differences
from cifar_lab.gradient_check.student_adapters import MisfitError
from cifar_lab.gradient_check.student_check import NOT_DONE, RIGHT, STEP, WRONG, Row, attempt

N_INPUTS, N_HIDDEN, N_CLASSES = 5, [4, 3], 4
LIMIT = 1e-2  # of central differences, whose step may cross a kink of ReLU
HOW = "Call backward of the modules in reverse order, each with what the one after it returned."


def check_mlp(cls: Any, path: Path) -> list[Row]:
    """Check a network of the course: its output, and the gradients of its linear modules."""
    with np.errstate(all="ignore"):
        rows = attempt(lambda: _rows(cls), path)
    if isinstance(rows, Failure):
        undone = rows.not_done
        return [Row("output", NOT_DONE if undone else WRONG, notes=[] if undone else [rows.text])]
    return rows


def _rows(cls: Any) -> list[Row]:
    rng = np.random.default_rng(0)
    network = cls(N_INPUTS, N_HIDDEN, N_CLASSES)
    linear = list(_linear_modules(list(vars(network).values()), set()))
    if not linear:
        raise MisfitError('expected modules with params["weight"] in attributes of the network')
    for module in linear:
        for param in module.params.values():
            param[...] = rng.normal(size=param.shape)
    x, dout = rng.normal(size=(6, N_INPUTS)), rng.normal(size=(6, N_CLASSES))
    y = np.asarray(network.forward(x.copy()))
    if y.shape != dout.shape:
        return [Row("output", WRONG, notes=[f"Its shape is {y.shape}; expected {dout.shape}."])]
    if not np.allclose(y.sum(axis=1), 1, atol=1e-5):
        text = "Its rows do not sum to 1: the last module should be the softmax."
        return [Row("output", WRONG, notes=[text])]
    network.backward(dout.copy())
    grads = [{name: np.array(grad) for name, grad in m.grads.items()} for m in linear]
    rows = [Row("output", RIGHT)]
    for number, module in enumerate(linear, 1):
        layer = SimpleNamespace(forward=lambda x: network.forward(x.copy()), params=module.params)
        slopes = central_differences(Case(layer, x, lambda x, _: x), dout, STEP)
        for name in module.params:
            error = distance(grads[number - 1].get(name), slopes[name])
            verdict = RIGHT if error <= LIMIT else WRONG
            notes = [] if verdict == RIGHT else [HOW]
            rows.append(Row(f"{name} {number}", verdict, None, error, notes))
    return rows


def _linear_modules(values: list[Any], seen: set[int]) -> Iterator[Any]:
    """Yield the modules with a weight, each once, in their order, also from nested containers."""
    for value in values:
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            yield from _linear_modules(list(value.values()), seen)
        elif isinstance(value, list | tuple):
            yield from _linear_modules(list(value), seen)
        elif "weight" in (getattr(value, "params", None) or {}):
            yield value
