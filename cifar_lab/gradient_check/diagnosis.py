"""The diagnosis of a wrong answer: a mistake of the catalogue, or how it differs from the right.

A student's layer gives an answer, such as the gradient of its weight, to each of several cases. A
mistake explains the answers if its variant agrees with every one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from cifar_lab.gradient_check.formulas import FORMULAS, SECTIONS
from cifar_lab.gradient_check.mistakes import CATALOGUE, GENERAL, Variant
from cifar_lab.numpy_reference.layer import Array

LIMIT = 1e-5
"""Largest relative error of a right answer: 100 times the rounding error of float32."""


@dataclass(frozen=True)
class Failure:
    """What a student's code did instead of returning an answer, such as raising an exception.

    Attributes:
        text: what happened, in a line.
        not_done: whether it raised NotImplementedError, as the stubs of an exercise do.
    """

    text: str
    not_done: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer of a student's layer to one case.

    Attributes:
        got: what the layer returned, or a ``Failure``.
        right: the right answer, computed by autograd.
        inputs: arguments of the variants of the catalogue.
        slope: the central difference of the student's own forward pass, or None.
    """

    got: Any
    right: Array
    inputs: SimpleNamespace
    slope: Array | None = None

    @property
    def error(self) -> float:
        """The relative error; infinite if there is no array of the right shape."""
        return distance(self.got, self.right)

    @property
    def slope_error(self) -> float | None:
        """The relative error against the central difference, or None if there is none."""
        if self.slope is None or isinstance(self.got, Failure):
            return None
        return distance(self.got, self.slope)

    @property
    def is_right(self) -> bool:
        """Whether the relative error is within the limit."""
        return self.error <= LIMIT

    def is_explained_by(self, variant: Variant) -> bool:
        """Return whether a variant gives the same answer, or fails where the layer does."""
        with np.errstate(all="ignore"):
            try:
                expected = np.asarray(variant(self.inputs))
            except (ValueError, IndexError):  # shapes that do not fit, or a label too large
                return isinstance(self.got, Failure)
        if isinstance(self.got, Failure):  # PyTorch raises for a gradient of a wrong shape
            return in_shape(expected, self.right.shape) is None
        return distance(self.got, expected) <= LIMIT


def in_shape(got: Any, shape: tuple[int, ...]) -> Array | None:
    """Return an answer as an array of a shape, or None if it does not fit.

    Dimensions of length 1 may be missing or added, because the numbers are the same.
    """
    try:
        array = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError is that of a tensor with grad
        return None
    fits = [n for n in array.shape if n != 1] == [n for n in shape if n != 1]
    return array.reshape(shape) if fits else None


def distance(got: Any, expected: Array) -> float:
    """Return ‖got − expected‖, relative to ‖expected‖ if that is larger than 1.

    Some right gradients are 0, such as that of the input of batch normalization in a batch of one,
    so a small gradient is compared by its absolute error.
    """
    array, finite = in_shape(got, expected.shape), np.isfinite(expected)
    if array is None or not np.array_equal(np.isfinite(array), finite):
        return np.inf
    error = float(np.linalg.norm(array[finite] - expected[finite]))
    return error / max(float(np.linalg.norm(expected[finite])), 1.0)


def mistake_in(layer: str, name: str, answers: Sequence[Answer]) -> str | None:
    """Return the first mistake of the catalogue that explains all answers, or None."""
    numbers = [answer for answer in answers if not isinstance(answer.got, Failure)]
    wrong = next((answer for answer in numbers if not answer.is_right), None)
    if wrong is None:
        return None
    for text, variant in {**CATALOGUE[layer][name], **GENERAL}.items():
        if all(answer.is_explained_by(variant) for answer in answers):
            return text.replace("{b}", str(wrong.inputs.b))
    return None


def explain(layer: str, name: str, answers: Sequence[Answer]) -> list[str]:
    """Return lines on wrong answers: the likely mistake, the right formula, and where to read."""
    wrong = next(answer for answer in answers if not answer.is_right)
    return [
        mistake_in(layer, name, answers) or _difference(wrong),
        f"The right formula is {FORMULAS[layer][name]}.",
        f'Read "{SECTIONS[layer]}" in docs/derivations.md of the repository.',
    ]


def _difference(answer: Answer) -> str:
    """Return how a wrong answer differs: by its shape, by a factor, or in which entries."""
    right, array = answer.right, in_shape(answer.got, answer.right.shape)
    where = f"For an input of shape {answer.inputs.x.shape}"
    if answer.got is None:
        return "It is None: a return is missing, or the gradient is not set."
    if array is None:
        kind = type(answer.got).__name__
        found = f"the shape is {answer.got.shape}" if hasattr(answer.got, "shape") else f"a {kind}"
        return f"{where}, {found} is returned; expected an array of shape {right.shape}."
    wild = int((~np.isfinite(array)).sum())
    if wild:
        return f"{where}, {wild} of {array.size} numbers are not finite."
    factor = float((array * right).sum() / max(float((right**2).sum()), 1e-30))
    if factor and distance(array, factor * right) <= LIMIT:
        return f"{where}, it is {factor:.4g} times the right one."
    off = np.abs(array - right) > 1e-3 * np.abs(array - right).max()
    first = tuple(int(index) for index in np.argwhere(off)[0])
    entry = f"[{', '.join(map(str, first))}] is {array[first]:.4g}; expected {right[first]:.4g}"
    return f"{where}, {int(off.sum())} of {off.size} numbers are wrong: {entry}."
