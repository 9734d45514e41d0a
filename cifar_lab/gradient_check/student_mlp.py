"""The check of a student's NumPy ``MLP``: the gradients of its linear modules, as a whole network.

How the modules are kept and which activation they have is the student's choice, so there is no
reference: the gradients are compared with central differences of the network's own forward pass.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.gradient_check.case import Case
from cifar_lab.gradient_check.diagnosis import Failure
from cifar_lab.gradient_check.gradients import central_differences, relative_error
from cifar_lab.gradient_check.student_check import (
    RIGHT,
    SLOPE_LIMIT,
    STEPS,
    UNDONE,
    WRONG,
    Row,
    attempt,
)

SIZES = (5, [4, 3], 4)  # inputs, hidden units, classes
HOW = "Call backward of the modules in reverse order, each with what the one after it returned."


def check_mlp(cls: Any, path: Path) -> list[Row]:
    """Check a network of the course: its output, and the gradients of its linear modules."""
    with np.errstate(all="ignore"):
        found = attempt(lambda: _rows(cls), path)
    if isinstance(found, Failure):
        if found.unfinished:
            return [Row("output", UNDONE)]
        return [Row("output", WRONG, notes=[found.text])]
    return found


def _rows(cls: Any) -> list[Row]:
    rng = np.random.default_rng(0)
    network = cls(*SIZES)
    linear = list(_linear_modules(vars(network), set()))
    for module in linear:
        module.params["weight"][...] = rng.normal(size=module.params["weight"].shape)
    x, dout = rng.normal(size=(6, SIZES[0])), rng.normal(size=(6, SIZES[2]))
    y = np.asarray(network.forward(x.copy()))
    if y.shape != dout.shape or not np.allclose(y.sum(axis=1), 1, atol=1e-5):
        text = "Its rows do not sum to 1: the last module is the softmax."
        shape = f"Its shape is {y.shape}; expected {dout.shape}."
        return [Row("output", WRONG, notes=[text if y.shape == dout.shape else shape])]
    network.backward(dout.copy())
    grads = [{name: np.array(grad) for name, grad in m.grads.items()} for m in linear]
    rows = [Row("output", RIGHT)]
    for number, module in enumerate(linear, 1):
        case = Case(_Watched(network, module.params), x, lambda x, _: x)
        slopes = [central_differences(case, dout, step) for step in STEPS]
        for name in module.params:
            pairs = [(grads[number - 1].get(name), slope[name]) for slope in slopes]
            error = min(np.inf if a is None else relative_error(a, b) for a, b in pairs)
            verdict = RIGHT if error <= SLOPE_LIMIT else WRONG
            notes = [] if verdict == RIGHT else [HOW]
            rows.append(Row(f"{name} {number}", verdict, None, float(error), notes))
    return rows


class _Watched:
    """The network as a layer with the parameters of one of its modules."""

    def __init__(self, network: Any, params: dict[str, Any]) -> None:
        self.network, self.params = network, params

    def forward(self, x: Any) -> Any:
        """Return the network's output for a copy of x."""
        return self.network.forward(x.copy())


def _linear_modules(holder: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the modules with a weight in lists and dictionaries, each once, in their order."""
    for value in holder.values() if isinstance(holder, dict) else holder:
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict | list | tuple):
            yield from _linear_modules(value, seen)
        elif isinstance(getattr(value, "params", None), dict) and "weight" in value.params:
            yield value
