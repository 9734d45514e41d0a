"""The check of a student's class: a row for each of its answers, with what is wrong with it.

Every case is drawn at random, with a random upstream gradient. The layer has another case before,
so that gradients which are added up, or kept, are noticed.
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
from cifar_lab.gradient_check.diagnosis import Answer, Failure, explain, fitted, mistake_in
from cifar_lab.gradient_check.gradients import autograd, central_differences, relative_error
from cifar_lab.gradient_check.mistakes import inputs_of
from cifar_lab.gradient_check.student_adapters import MisfitError
from cifar_lab.gradient_check.student_layers import KINDS, Build, Kind

RIGHT, WRONG, UNDONE = "right", "WRONG", "not done yet"
FOLLOWS, AFTER, UNKNOWN = "as forward", "forward first", "no answer"
SLOPE_LIMIT = 1e-2
STEPS = (1e-5, 1e-2)  # of central differences; the second is for layers that compute in float32


@dataclass
class Row:
    """The result for one answer of a class.

    Attributes:
        name: "output", "x", or the name of a parameter; "input" for what the layer writes into.
        verdict: one of the constants of this module. The gradients of a wrong forward pass may be
            right, or right for this forward pass (``FOLLOWS``), or not to be judged before the
            forward pass is right (``AFTER``). ``UNKNOWN`` is a gradient without an answer, because
            the backward pass raises an exception that another row shows.
        error: largest relative error against autograd, or None if there is nothing to compare.
        slope_error: the same against central differences of the class's own forward pass.
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
    kind = KINDS[name]
    rows = _rows(kind, cls, path, as_labels=False)
    if kind.layer == "cross_entropy" and any(row.verdict == WRONG for row in rows):
        # The later editions have integers in place of one-hot rows.
        with_labels = _rows(kind, cls, path, as_labels=True)
        rows = min(rows, with_labels, key=_wrongness)
    for row in rows:
        row.line = _line(cls, "forward" if row.name in ("output", "input") else "backward", path)
    return rows


def _wrongness(rows: list[Row]) -> tuple[bool, int, int]:
    """Return a measure of how badly a class fits one kind of targets."""
    cannot_take_them = rows[0].verdict == WRONG and rows[0].error is None
    wrong = sum(row.verdict == WRONG for row in rows)
    return cannot_take_them, wrong, sum(len(row.notes) for row in rows)


def _rows(kind: Kind, cls: Any, path: Path, as_labels: bool) -> list[Row]:
    rng = np.random.default_rng(0)
    found: dict[str, list[Answer]] = {}
    written: set[str] = set()
    for build in kind.builds(cls):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers, more = _try(kind, cls, build, rng, path, as_labels)
        written |= more
        for name, answer in answers.items():
            found.setdefault(name, []).append(answer)
    outputs = [answer.got for answer in found["output"]]
    misfit = next((got for got in outputs if isinstance(got, Failure) and got.is_misfit), None)
    if misfit:
        return [Row("output", WRONG, notes=[misfit.text])]
    output_is_right = all(answer.is_right for answer in found["output"])
    rows = [_judge(kind.layer, n, answers, output_is_right) for n, answers in found.items()]
    _tell_once(rows, {a.got.text for a in found.get("x", []) if isinstance(a.got, Failure)})
    told = " and ".join(sorted(written))
    note = f"{told} in place, which other layers still need: compute a new array."
    return rows + [Row("input", WRONG, notes=[note])] * bool(written)


def _tell_once(rows: list[Row], texts: set[str]) -> None:
    """Show an exception of the backward pass where more is known of it, or else once."""
    raised = [row for row in rows if row.notes and row.notes[0] in texts]
    explained = [row for row in raised if len(row.notes) > 1] or raised[:1]
    for row in raised:
        if row not in explained:
            row.verdict, row.notes = UNKNOWN, []


def _try(
    kind: Kind, cls: Any, build: Build, rng: Rng, path: Path, as_labels: bool
) -> tuple[dict[str, Answer], set[str]]:
    """Return the answers of a class to a case, by name, and what it wrote into."""
    other, case = build(rng), build(rng)
    shape = np.shape(case.forward(case.x))
    douts = [np.ones(()) if case.is_loss else rng.normal(size=shape) for _ in range(2)]
    before, right = autograd(other, douts[0]), autograd(case, douts[1])
    stale = autograd(replace(case, x=other.x), douts[1])
    seen = [replace(c, args=(c.args[0].argmax(axis=1),)) if as_labels else c for c in (other, case)]
    output = attempt(lambda: _output(kind, cls, seen[1]), path)
    calls = _Calls(kind, cls, seen, douts)
    got: Any = output if isinstance(output, Failure) else attempt(calls.gradients, path)
    terms = case.terms(case.x, case.params, douts[1])
    answers = {}
    for name in right:
        answer = output if name == "output" else got.get(name) if isinstance(got, dict) else got
        inputs = inputs_of(kind.layer, case, douts[1], right[name])
        inputs.before, inputs.stale = before[name], stale[name]
        size = float(np.linalg.norm(terms.get(name, 0.0)))
        answers[name] = Answer(answer, right[name], inputs, size)
    if isinstance(output, Failure) or output is None:
        return {"output": answers["output"]}, calls.written
    return _with_slopes(answers, attempt(calls.slopes, path)), calls.written


def _output(kind: Kind, cls: Any, case: Case) -> Any:
    """Return the output of a new object, which has not seen other inputs."""
    return kind.adapt(cls, case).forward(case.x, *case.args)


class _Calls:
    """The calls of one object: two cases forward and backward, then central differences."""

    def __init__(self, kind: Kind, cls: Any, cases: list[Case], douts: list[Any]) -> None:
        self.kind, self.cls, self.cases, self.douts = kind, cls, cases, douts
        self.layer: Any = None

    def gradients(self) -> dict[str, Any]:
        """Return the gradients of the second case, by name."""
        self.layer = self.kind.adapt(self.cls, self.cases[0])
        try:
            self._backward(0)
        except Exception:  # which the second case may raise as well
            self.layer = self.kind.adapt(self.cls, self.cases[1])
        dx = self._backward(1)
        return {"x": dx, **self.layer.grads}

    def _backward(self, number: int) -> Any:
        """Return the gradient of the input of a case, after its forward pass."""
        case, layer = self.cases[number], self.layer
        layer.params = case.params
        layer.forward(case.x, *case.args)
        return layer.backward() if case.is_loss else layer.backward(self.douts[number])

    def slopes(self) -> list[dict[str, Any]]:
        """Return central differences of the second case, for each of the steps."""
        layer = self.kind.adapt(self.cls, self.cases[1])
        case = replace(self.cases[1], layer=layer)
        return [central_differences(case, self.douts[1], step) for step in STEPS]

    @property
    def written(self) -> set[str]:
        """What the object wrote into, of what it was given."""
        return self.layer.written if self.layer else set()


def _with_slopes(answers: dict[str, Answer], slopes: Any) -> dict[str, Answer]:
    """Add the comparison of gradients with central differences, where these are finite."""
    if isinstance(slopes, Failure):
        return {"output": answers["output"]}
    found = {"output": answers.pop("output")}
    for name, answer in answers.items():
        arrays = [slope[name] for slope in slopes]
        if all(np.isfinite(array).all() for array in arrays):
            ours = fitted(answer.got, answer.right)
            if ours is not None:
                error = min(_error(ours, array, answer.terms) for array in arrays)
                answer = replace(answer, slope_error=error)
            found[name] = answer
    return found


def _error(a: Any, b: Any, terms: float) -> float:
    """Return the relative error, or the error relative to the terms if they are larger."""
    size = max(terms, float(np.linalg.norm(b)))
    return float(np.linalg.norm(a - b)) / size if size else relative_error(a, b)


def _judge(layer: str, name: str, answers: list[Answer], output_is_right: bool) -> Row:
    """Return the row of an answer, from those to all cases."""
    failures = [a.got for a in answers if isinstance(a.got, Failure)]
    if all(a.got is None or (isinstance(a.got, Failure) and a.got.unfinished) for a in answers):
        return Row(name, UNDONE)
    errors = [a.error for a in answers if a.array is not None]
    slopes = [a.slope_error for a in answers if a.slope_error is not None]
    row = Row(name, RIGHT, max(errors, default=None), max(slopes, default=None))
    if all(a.is_right for a in answers):
        row.notes = _shape_notes(answers)
        return row
    raised = [failure.text for failure in failures if not failure.unfinished][:1]
    if name == "output" or output_is_right or mistake_in(layer, name, answers):
        row.verdict, row.notes = WRONG, raised + explain(layer, name, answers)
    else:
        follows = slopes and len(slopes) == len(answers) and max(slopes) <= SLOPE_LIMIT
        row.verdict = FOLLOWS if follows else AFTER
    return row


def _shape_notes(answers: list[Answer]) -> list[str]:
    """Return a note if the numbers are right and the shape is not."""
    for answer in answers:
        shape, expected = np.shape(answer.got), answer.right.shape
        if shape != expected and expected:
            return [f"The numbers are right; the shape is {shape}, expected {expected}."]
    return []


def attempt(call: Callable[[], Any], path: Path) -> Any:
    """Return what a call into the student's code returns, or a ``Failure``."""
    try:
        return call()
    except MisfitError as error:
        return Failure(f"{error}.", is_misfit=True)
    except NotImplementedError as error:
        return Failure(where(error, path), unfinished=True)
    except (Exception, SystemExit) as error:
        return Failure(where(error, path))


def where(error: BaseException, path: Path) -> str:
    """Return an exception of the student's code in a line, with its place in the file."""
    told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(": ")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: {type(error).__name__}: {error.msg}"
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
