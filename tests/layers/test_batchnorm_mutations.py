"""The gradient check catches typical mistakes: each is planted, and the check has to fail."""

import inspect
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from cifar_lab.gradient_check.case import Case
from cifar_lab.gradient_check.mistakes import inputs_of
from cifar_lab.gradient_check.norm_mistakes import NORM
from cifar_lab.layers import BatchNormFunction
from cifar_lab.numpy_reference.batch_norm import BatchNorm

EPS = 1e-3
NAMES = ("x", "gamma", "beta")
# PyTorch sums what is not summed, and refuses a wrong sum, which has another shape.
MISTAKES = [(name, text) for name in NAMES for text in NORM[name] if " summed" not in text]


def mistaken(name: str, text: str) -> type[BatchNormFunction]:
    """The Function with a gradient of the catalogue of mistakes."""

    def backward(ctx, *dy):
        x, gamma, *_ = ctx.saved_tensors
        grads = list(BatchNormFunction.backward(ctx, *dy))
        right = grads[NAMES.index(name)].numpy()
        layer = BatchNorm(3, eps=EPS)
        layer.params = {"gamma": gamma.detach().numpy(), "beta": np.zeros(3)}
        case = Case(layer, x.detach().numpy(), None)
        wrong = NORM[name][text](inputs_of("batch_norm", case, dy[0].numpy(), right))
        grads[NAMES.index(name)] = torch.tensor(wrong)
        return tuple(grads)

    return type("Mistaken", (BatchNormFunction,), {"backward": staticmethod(backward)})


def planted(right: str, wrong: str) -> type[BatchNormFunction]:
    """The Function with ``wrong`` in place of ``right`` in its backward pass."""
    source = textwrap.dedent(inspect.getsource(BatchNormFunction.backward))
    assert right in source, "the formula changed: say here how the mistake looks now"
    namespace = dict(vars(sys.modules[BatchNormFunction.__module__]))
    exec("from __future__ import annotations\n" + source.replace(right, wrong), namespace)
    return type("Mistaken", (BatchNormFunction,), {"backward": namespace["backward"]})


def inputs() -> list[Tensor]:
    """Numbers with a small variance, where a forgotten eps shows."""
    generator = torch.Generator().manual_seed(0)
    sizes, scales = [(5, 3), (3,), (3,)], [0.05, 1, 1]
    return [
        (scale * torch.randn(size, generator=generator, dtype=torch.float64)).requires_grad_()
        for size, scale in zip(sizes, scales, strict=True)
    ]


def proof_holds(check, function: type[BatchNormFunction]) -> bool:
    def y(*args: Tensor) -> Tensor:
        return function.apply(*args, EPS)[0]

    return check(y, inputs(), raise_exception=False)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_proof_holds_for_an_unchanged_copy(check) -> None:
    assert proof_holds(check, planted("dy", "dy"))


@pytest.mark.parametrize(("name", "text"), MISTAKES)
def test_proof_catches(name: str, text: str) -> None:
    assert not proof_holds(gradcheck, mistaken(name, text))


def test_proof_of_second_derivatives_catches_statistics_taken_for_constants() -> None:
    mistaken = planted("if torch.is_grad_enabled()", "if False")
    assert proof_holds(gradcheck, mistaken)
    assert not proof_holds(gradgradcheck, mistaken)
