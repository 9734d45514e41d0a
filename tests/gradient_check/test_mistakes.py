"""The catalogue: the proof catches every mistake in it, and the diagnosis names every one."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from cifar_lab.gradient_check.case import Case
from cifar_lab.gradient_check.diagnosis import Answer, Failure, mistake_in
from cifar_lab.gradient_check.formulas import FORMULAS, SECTIONS
from cifar_lab.gradient_check.gradients import autograd, check_gradients
from cifar_lab.gradient_check.mistakes import CATALOGUE, GENERAL, inputs_of
from cifar_lab.gradient_check.student_layers import KINDS

BUILDS = {kind.layer: kind.builds for kind in KINDS.values()}
EVERY_ANSWER = pytest.mark.parametrize(
    ("layer", "name"), [(layer, name) for layer, names in FORMULAS.items() for name in names]
)


class Mistaken:
    """A layer with a mistake in one of its answers."""

    def __init__(self, layer, right, name, variant):
        self.layer, self.right, self.name, self.variant = layer, right, name, variant
        self.before = np.zeros(())

    @property
    def params(self):
        return self.right.params

    def forward(self, x, *args):
        self.case = Case(self.right, x, None, args=args)
        y = np.asarray(self.right.forward(x, *args))
        return self.wrong(y, y) if self.name == "output" else y

    def backward(self, *dout):
        answers = {"x": self.right.backward(*dout), **getattr(self.right, "grads", {})}
        if self.name in answers:
            right = answers[self.name]
            answers[self.name], self.before = self.wrong(right, *dout or [np.ones(())]), right
        dx = answers.pop("x")
        self.grads = answers
        return dx

    def wrong(self, right, dout):
        inputs = inputs_of(self.layer, self.case, dout, right)
        inputs.before = self.before
        return self.variant(inputs)


def is_caught(layer, name, variant):
    rng = np.random.default_rng(0)
    for build in BUILDS[layer]:
        case = build(rng)
        wrong = Mistaken(layer, deepcopy(case.layer), name, variant)
        with np.errstate(all="ignore"):
            try:
                rows = check_gradients(replace(case, layer=wrong, smooth=name != "output"), rng)
            except (ValueError, IndexError):  # shapes that do not fit, and labels
                return True
        if not all(row.passed for row in rows):
            return True
    return False


@EVERY_ANSWER
def test_proof_catches_every_mistake(layer, name):
    is_general = name == "x" and layer != "cross_entropy"  # which has no upstream gradient
    variants = CATALOGUE[layer][name] | (GENERAL if is_general else {})
    missed = [text for text, variant in variants.items() if not is_caught(layer, name, variant)]
    assert variants
    assert missed == []


@EVERY_ANSWER
def test_proof_lets_the_right_answer_pass(layer, name):
    assert not is_caught(layer, name, lambda v: v.right)


def answer_of(layer, name, variant, case, rng):
    """Return the answer to a case of a layer with a mistake."""
    dout = np.ones(()) if case.is_loss else rng.normal(size=case.forward(case.x).shape)
    right = autograd(case, dout)[name]
    inputs = inputs_of(layer, case, dout, right)
    inputs.before = rng.normal(size=right.shape)
    with np.errstate(all="ignore"):
        try:
            got = variant(inputs)
        except (ValueError, IndexError) as error:
            got = Failure(str(error))
    return Answer(got, right, inputs)


@EVERY_ANSWER
def test_diagnosis_names_every_mistake(layer, name):
    for text, variant in (CATALOGUE[layer][name] | GENERAL).items():
        rng = np.random.default_rng(1)
        answers = [answer_of(layer, name, variant, build(rng), rng) for build in BUILDS[layer]]
        named = mistake_in(layer, name, answers)
        if all(answer.is_right for answer in answers):
            assert text in GENERAL  # the transpose of a vector, for example
        elif text in GENERAL:  # one of the layer may say the same, and more of it
            assert named
        else:
            assert named == text.replace("{b}", str(answers[0].inputs.b))


def test_every_layer_has_a_section_of_the_derivations():
    assert SECTIONS.keys() == FORMULAS.keys() == CATALOGUE.keys() == BUILDS.keys()
