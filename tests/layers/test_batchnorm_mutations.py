"""The gradient check catches typical mistakes: each is planted, and the check has to fail."""

import inspect
import sys
import textwrap

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from cifar_lab.layers import BatchNormFunction

# What a student gets wrong in the backward pass: right, wrong.
MISTAKES = {
    "forgotten 1/B": ("dy_slope / -count", "dy_slope * -1"),
    "Bessel's correction": ("/ -count", "/ -(count - 1)"),
    "missing mean term": ("share * dbeta", "0 * dbeta"),
    "missing variance term": ("inv_std * dgamma", "inv_std * 0"),
    "swapped sums": (
        "inv_std * dgamma\n        offset = share * dbeta",
        "inv_std * dbeta\n        offset = share * dgamma",
    ),
    "wrong sign": ("/ -count", "/ count"),
    "x for x - mean": (" - slope * mean", ""),
    "forgotten gamma": ("inv_std * as_channels(gamma, x)", "inv_std"),
    "gamma twice": ("share * inv_std", "share * as_channels(gamma, x) * inv_std"),
    "forgotten inv_std": ("share * inv_std", "share"),
    "variance for deviation": ("(var + ctx.eps).rsqrt()", "1 / (var + ctx.eps)"),
    "forgotten eps": ("(var + ctx.eps)", "var"),
    "dgamma not normalised": ("dgamma = covariance * inv_std", "dgamma = covariance"),
    "dgamma not centred": ("(x, mean, dy)", "(x, 0 * mean, dy)"),
    "dbeta averaged": ("dbeta.view(-1)", "dbeta.view(-1) / len(x)"),
}


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
    return check(lambda *args: function.apply(*args, 1e-3)[0], inputs(), raise_exception=False)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_proof_holds_for_an_unchanged_copy(check) -> None:
    assert proof_holds(check, planted("dy", "dy"))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_proof_catches(mistake) -> None:
    assert not proof_holds(gradcheck, planted(*MISTAKES[mistake]))


def test_proof_of_second_derivatives_catches_statistics_taken_for_constants() -> None:
    mistaken = planted("if torch.is_grad_enabled()", "if False")
    assert proof_holds(gradcheck, mistaken)
    assert not proof_holds(gradgradcheck, mistaken)
