"""What a wrong answer looks like: a mistake of the catalogue, or how it differs from the right one.

A layer gives several answers of a name, one for each case. A mistake explains them if its variant
agrees with every one of them, the right ones included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_lab.gradient_check.formulas import FORMULAS, SECTIONS
from cifar_lab.gradient_check.mistakes import Variant, mistakes_in
from cifar_lab.numpy_reference.layer import Array

LIMIT = 1e-5
"""Largest relative error of a right answer: 100 times the rounding error of float32."""


@dataclass(frozen=True)
class Failure:
    """An exception of the student's code.

    Attributes:
        text: the exception in a line.
        unfinished: whether it is NotImplementedError, which a stub raises.
        is_misfit: whether the class is not what the course asks for, so nothing can be checked.
    """

    text: str
    unfinished: bool = False
    is_misfit: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer of a student's layer to one case.

    Attributes:
        got: what the layer returned, a ``Failure``, or None for nothing.
        right: the right answer.
        inputs: what the mistaken variants are functions of.
        terms: norm of the terms that the answer is a sum of, or 0 if they are not known.
        slope_error: relative error against central differences of the student's own forward pass,
            or None.
    """

    got: Any
    right: Array
    inputs: Any
    terms: float = 0.0
    slope_error: float | None = None

    @property
    def array(self) -> Array | None:
        """What the layer returned as an array of the right shape, or None if that is impossible.

        Dimensions of length 1 may differ, because such an array broadcasts to the same numbers.
        """
        return fitted(self.got, self.right)

    @property
    def error(self) -> float:
        """The relative error; infinite for a wrong shape and for numbers that are not finite."""
        return _distance(self.got, self.right, self.terms)

    @property
    def is_right(self) -> bool:
        """Whether the relative error is within the limit."""
        return self.error <= LIMIT

    def is_explained_by(self, variant: Variant) -> bool:
        """Whether a mistaken variant returns the same as the layer.

        An exception of the layer is explained by a variant that raises one, too, or has a shape
        that does not fit, which PyTorch does not allow.
        """
        with np.errstate(all="ignore"):
            try:
                expected = variant(self.inputs)
            except (ValueError, IndexError):  # shapes that do not fit, a label that is too large
                return isinstance(self.got, Failure)
        expected = np.asarray(expected)
        if isinstance(self.got, Failure):
            return fitted(expected, self.right) is None
        size = max(self.terms, float(np.linalg.norm(np.nan_to_num(self.right))))
        seen = (expected, _summed(expected, self.right.shape))
        return any(_distance(self.got, array, size) <= LIMIT for array in seen)


def _summed(array: Array, shape: tuple[int, ...]) -> Array:
    """Return the sum over the dimensions that a shape lacks, as PyTorch does with gradients."""
    try:
        expands = np.broadcast_shapes(array.shape, shape) == array.shape
    except ValueError:
        expands = False
    if not expands:
        return array
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    short = tuple(axis for axis, length in enumerate(shape) if length < array.shape[axis])
    return array.sum(axis=short, keepdims=True)


def fitted(got: Any, right: Array) -> Array | None:
    """Return an answer in the shape of the right one, or None if the numbers do not fit it."""
    try:
        array = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    fits = array.squeeze().shape == right.squeeze().shape
    return array.reshape(right.shape) if fits else None


def _distance(got: Any, expected: Array, size: float) -> float:
    """Return the norm of the difference, relative to the expected answer or, if larger, ``size``.

    Numbers that are not finite agree with those of the same kind.
    """
    array = fitted(got, expected)
    if array is None:
        return np.inf
    finite = np.isfinite(expected)
    if not np.array_equal(np.isfinite(array), finite):
        return np.inf
    error = float(np.linalg.norm(array[finite] - expected[finite]))
    size = max(size, float(np.linalg.norm(expected[finite])))
    return 0.0 if error == 0 else error / size if size else np.inf


def explain(layer: str, name: str, answers: Sequence[Answer]) -> list[str]:
    """Return what wrong numbers look like, the right formula, and where to read; [] for none."""
    found = mistake_in(layer, name, answers) or _difference(answers)
    formula = f"Right is {FORMULAS[layer][name]}."
    section = f'Read "{SECTIONS[layer]}" in docs/derivations.md.'
    return [found, formula, section] if found else []


def mistake_in(layer: str, name: str, answers: Sequence[Answer]) -> str | None:
    """Return the first mistake of the catalogue that explains all answers, or None."""
    wrong = [a for a in answers if not a.is_right and not isinstance(a.got, Failure)]
    if not wrong:
        return None
    for text, variant in mistakes_in(layer, name).items():
        if all(answer.is_explained_by(variant) for answer in answers):
            return text.replace("{b}", str(wrong[0].inputs.b))
    return None


def _difference(answers: Sequence[Answer]) -> str | None:
    """Return how wrong answers differ from the right ones: shape, factor, or which entries."""
    wrong = [a for a in answers if not a.is_right and not isinstance(a.got, Failure)]
    if not wrong:
        return None
    first = wrong[0]
    shape = f" This happens only for inputs of shape {first.inputs.x.shape}."
    only = shape if len(wrong) == 1 < len(answers) else ""
    if first.got is None:
        return f"Nothing is returned.{only}"
    if first.array is None:
        what = f"Its shape is {np.shape(first.got)}" if _is_numeric(first.got) else "It is no array"
        return f"{what}; expected the shape {first.right.shape}.{only}"
    if not np.isfinite(first.array).all():
        count = int((~np.isfinite(first.array)).sum())
        return f"{count} of {first.array.size} numbers are not finite.{only}"
    factors = [_factor(answer) for answer in wrong]
    if None in factors:
        return _entries(first.array, first.right, first.inputs.x) + only
    other = [factor for factor in factors if not np.isclose(factor, factors[0])]
    varies = f" in one case and {other[0]:.4g} times in another" if other else ""
    return f"It is {factors[0]:.4g} times the right one{varies}.{only}"


def _is_numeric(got: Any) -> bool:
    try:
        np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _factor(answer: Answer) -> Any:
    """Return the number that the answer is a multiple by, or None."""
    array, right = answer.array, answer.right
    square = float((right**2).sum())
    if array is None or square == 0:
        return None
    factor = float((array * right).sum()) / square
    is_multiple = np.linalg.norm(array - factor * right) <= LIMIT * np.linalg.norm(array)
    return factor if is_multiple and factor else None


def _entries(array: Array, right: Array, x: Array) -> str:
    """Return which entries are wrong, and the first of them."""
    off = np.abs(array - right) > 1e-4 * np.abs(right).max()
    index = tuple(int(i) for i in np.argwhere(off)[0]) if off.any() else (0,) * off.ndim
    first = f"[{', '.join(map(str, index))}] is {array[index]:.4g}, right is {right[index]:.4g}."
    if not off.any() or off.all():
        return f"All of its {array.size} numbers differ: {first}" if off.ndim else f"It {first[3:]}"
    return f"{int(off.sum())} of {off.size} numbers differ{_place(off, x)}: {first}"


def _place(off: npt.NDArray[np.bool_], x: Array) -> str:
    """Return what the wrong entries have in common, if anything."""
    signs = {" < 0": x < 0, " > 0": x > 0} if x.shape == off.shape else {}
    for sign, mask in signs.items():
        if not (off & ~mask).any() and not mask.all():
            return f", all where x{sign}"
    if off.ndim != 2:
        return ""
    rows, columns = (np.flatnonzero(off.any(axis=axis)).tolist() for axis in (1, 0))
    parts = [f"rows {rows}"] * (len(rows) < len(off))
    parts += [f"columns {columns}"] * (len(columns) < off.shape[1])
    return f", all in {' and '.join(parts)}" if parts else ""
