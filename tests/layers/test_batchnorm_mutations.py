"""The gradient check catches typical mistakes: each is planted, and the check has to fail."""

import inspect

import pytest
import torch
from torch.autograd import gradcheck

from cifar_lab.layers import formula, function, passes

# What a student gets wrong: function, right, wrong.
BACKWARD = "batch_norm_backward"
MISTAKES = {
    "forgotten 1/B": (BACKWARD, "dy_slope / -count", "dy_slope * -1"),
    "Bessel's correction": (BACKWARD, "/ -count", "/ -(count - 1)"),
    "missing mean term": (BACKWARD, "(share * sum_dy)", "(0 * sum_dy)"),
    "missing variance term": (BACKWARD, "* sum_dy_xhat", "* 0"),
    "swapped sums": (BACKWARD, "sum_dy, sum_dy_xhat =", "sum_dy_xhat, sum_dy ="),
    "wrong sign": (BACKWARD, "/ -count", "/ count"),
    "x for x - mean": (BACKWARD, ".addcmul(slope, mean, value=-1)", ""),
    "forgotten gamma": (BACKWARD, "inv_std * as_channels(gamma, x)", "inv_std"),
    "gamma twice": (BACKWARD, "share * inv_std", "share * as_channels(gamma, x) * inv_std"),
    "forgotten inv_std": (BACKWARD, "share * inv_std", "share"),
    "variance for deviation": (BACKWARD, "(var + eps).rsqrt()", "1 / (var + eps)"),
    "forgotten eps": (BACKWARD, "(var + eps)", "var"),
    "dgamma not normalised": (BACKWARD, "dgamma = covariance * inv_std", "dgamma = covariance"),
    "dgamma not centred": ("gamma_sums", "torch.sub(x, mean, out=work)", "x"),
    "dbeta averaged": ("beta_sums", "channel_sum(dy)", "dy.mean(0, keepdim=True)"),
}


def proof_holds() -> bool:
    """Gradcheck with a small variance, where a forgotten eps shows."""
    generator = torch.Generator().manual_seed(0)
    sizes, scales = [(5, 3), (3,), (3,)], [0.05, 1, 1]
    inputs = [
        (scale * torch.randn(size, generator=generator, dtype=torch.float64)).requires_grad_()
        for size, scale in zip(sizes, scales, strict=True)
    ]
    eps = 1e-3
    return gradcheck(
        lambda *inputs: function.batch_norm_manual(*inputs, eps)[0], inputs, raise_exception=False
    )


def test_proof_holds_for_the_formula_as_it_is() -> None:
    assert proof_holds()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_proof_catches(mistake, monkeypatch) -> None:
    name, right, wrong = MISTAKES[mistake]
    module = formula if name == BACKWARD else passes
    source = inspect.getsource(getattr(module, name))
    assert right in source, "the formula changed: say here how the mistake looks now"
    namespace = dict(vars(module))
    exec("from __future__ import annotations\n" + source.replace(right, wrong), namespace)
    for user in (passes, formula, function):
        if hasattr(user, name):
            monkeypatch.setattr(user, name, namespace[name])
    assert not proof_holds()
