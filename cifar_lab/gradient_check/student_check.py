"""The check of a student's class: a row for each of its answers, with what is wrong with it.

Every case has random inputs and a random upstream gradient. The same object computes another case
first, so that gradients which accumulate over the calls are noticed.
"""

import inspect
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cifar_lab.gradient_check.case import Case, Rng
from cifar_lab.gradient_check.diagnosis import Answer, Failure, explain, mistake_in
from cifar_lab.gradient_check.gradients import autograd, central_differences
from cifar_lab.gradient_check.mistakes import inputs_of
from cifar_lab.gradient_check.student_adapters import MisfitError
from cifar_lab.gradient_check.student_layers import Kind, kind_of

RIGHT, WRONG, NOT_DONE, NOT_JUDGED = "right", "WRONG", "not done yet", "not judged"
STEP = 1e-3  # of central differences: large enough for layers that compute in float32


@dataclass
class Row:
    """The result for one answer of a class.

    Attributes:
        name: "output" for the forward pass, "x" for the gradient of the input, or the name of a
            parameter.
        verdict: one of the constants of this module. A gradient is not judged if it differs
            because of a mistake in the forward pass or because of an exception.
        error: largest relative error against autograd, or None if there is nothing to compare.
        slope_error: the same error against central differences of the class's own forward pass.
        notes: lines of explanation.
        line: line of the method in the student's file, or 0 if it is not known.
    """

    name: str
    verdict: str
    error: float | None = None
    slope_error: float | None = None
    notes: list[str] = field(default_factory=list)
    line: int = 0


def check_class(cls: Any, name: str, path: Path) -> list[Row]:
    """Check a class of the course.

    Args:
        cls: the class.
        name: its name in the course.
        path: the student's file, for the lines of its errors.
    """
    kind = kind_of(name, cls)
    rows = _rows(kind, cls, path)
    if kind.layer == "cross_entropy" and any(row.verdict == WRONG for row in rows):
        # The later editions have class indices as targets in place of one-hot rows.
        rows = min(rows, _rows(kind, cls, path, as_labels=True), key=_wrongness)
    for row in rows:
        row.line = _line(cls, "forward" if row.name == "output" else "backward", path)
    return rows


def _wrongness(rows: list[Row]) -> tuple[bool, int]:
    """Return whether the forward pass returns no numbers, and how many rows are wrong."""
    return rows[0].error is None, sum(row.verdict != RIGHT for row in rows)


def _rows(kind: Kind, cls: Any, path: Path, as_labels: bool = False) -> list[Row]:
    rng = np.random.default_rng(0)
    found: dict[str, list[Answer]] = {}
    for build in kind.builds:
        cases = build(rng), build(rng)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, answer in _answers(kind, cls, cases, rng, path, as_labels).items():
                found.setdefault(name, []).append(answer)
    forward_is_right = all(answer.is_right for answer in found["output"])
    rows = [_row(kind.layer, name, found[name], forward_is_right) for name in found]
    for row in rows if forward_is_right else rows[:1]:
        failures = [a.got for a in found[row.name] if isinstance(a.got, Failure)]
        texts = [failure.text for failure in failures if not failure.not_done]
        if texts and not any(texts[0] in other.notes for other in rows):
            row.verdict, row.notes = WRONG, [texts[0]]
    return rows[:1] if all(row.error is None for row in rows) else rows


def _answers(
    kind: Kind, cls: Any, cases: tuple[Case, Case], rng: Rng, path: Path, as_labels: bool
) -> dict[str, Answer]:
    """Return the answers of a class to the second of two cases, by name."""
    douts = [
        np.ones(()) if case.is_loss else rng.normal(size=case.forward(case.x).shape)
        for case in cases
    ]
    before, right = (autograd(case, dout) for case, dout in zip(cases, douts, strict=True))
    given = [replace(c, args=(c.args[0].argmax(axis=1),)) if as_labels else c for c in cases]
    case = given[1]

    def output() -> Any:
        return kind.adapt(cls, case).forward(case.x, *case.args)

    def gradients() -> dict[str, Any]:
        layer = kind.adapt(cls, case)
        for called, dout in zip(given, douts, strict=True):
            layer.params = called.params
            layer.forward(called.x, *called.args)
            dx = layer.backward() if called.is_loss else layer.backward(dout)
        return {"x": dx, **layer.grads}

    def slopes() -> dict[str, Any]:
        if not case.smooth:
            return {}
        return central_differences(replace(case, layer=kind.adapt(cls, case)), douts[1], STEP)

    got, slope = attempt(gradients, path), attempt(slopes, path)
    answers = {}
    for name in right:
        inputs = inputs_of(kind.layer, cases[1], douts[1], right[name])
        inputs.before = before[name]
        gradient = got if isinstance(got, Failure) else got.get(name)
        answer = attempt(output, path) if name == "output" else gradient
        own_slope = None if isinstance(slope, Failure) else slope.get(name)
        answers[name] = Answer(answer, right[name], inputs, own_slope)
    return answers


def _row(layer: str, name: str, answers: list[Answer], forward_is_right: bool) -> Row:
    """Return the row of an answer, given the answers to all cases."""
    failures = [a.got for a in answers if isinstance(a.got, Failure)]
    if all(isinstance(a.got, Failure) and a.got.not_done for a in answers):
        return Row(name, NOT_DONE)
    depends = name != "output" and not forward_is_right
    errors = [a.error for a in answers if not isinstance(a.got, Failure)]
    slopes = [a.slope_error for a in answers if a.slope_error is not None]
    row = Row(name, RIGHT, max(errors, default=None), max(slopes, default=None))
    if all(a.is_right for a in answers):
        wrong = [a for a in answers if a.right.ndim and np.shape(a.got) != a.right.shape]
        shapes = [f"{np.shape(a.got)}; expected {a.right.shape}" for a in wrong[:1]]
        row.notes = [f"The numbers are right, but the shape is {shape}." for shape in shapes]
    elif mistake_in(layer, name, answers) or not (failures or depends):
        row.verdict = WRONG
        row.notes = [failure.text for failure in failures[:1]] + explain(layer, name, answers)
    else:
        row.verdict = NOT_JUDGED
    return row


def attempt(call: Callable[[], Any], path: Path) -> Any:
    """Call the student's code; return its result or a ``Failure``."""
    try:
        return call()
    except MisfitError as error:
        return Failure(f"{error}.")
    except (Exception, SystemExit) as error:
        return Failure(where(error, path), isinstance(error, NotImplementedError))


def where(error: BaseException, path: Path) -> str:
    """Describe an exception of the student's code in a line, with its place in the file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: {type(error).__name__}: {error.msg}"
    told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).parent == path.parent]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}: " if own else ""
    return place + told


def _line(cls: Any, method: str, path: Path) -> int:
    """Return the line of a method in the student's file; 0 if it is not there."""
    for name in (method, "forward"):
        code = getattr(inspect.unwrap(getattr(cls, name, cls)), "__code__", None)
        if code is not None and Path(code.co_filename) == path:
            return int(code.co_firstlineno)
    return 0
