"""The hand-written gradients against finite differences, autograd and the textbook formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from cifar_lab.layers import BatchNormFunction, batch_norm_composed, function
from cifar_lab.layers.function import batch_norm_manual

# PyTorch's own forward-mode rules are scripted when first used, and scripting is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

SHAPES = [(2, 3), (7, 1), (5, 4), (2, 3, 4), (1, 2, 3, 2), (3, 2, 2, 3)]


def leaves(
    shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """x, gamma and beta; none of them at a special value."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (shape, shape[1:2], shape[1:2])
    tensors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def upstream(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    """A random gradient: of all ones, that of x would be about zero whatever the formula."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("function", [BatchNormFunction.apply, batch_norm_manual])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck_forward_and_reverse(function, shape) -> None:
    x, gamma, beta = leaves(shape)
    assert gradcheck(
        lambda *inputs: function(*inputs)[0],
        (x, gamma, beta),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3), (2, 1, 2, 2)])
def test_gradgradcheck(shape) -> None:
    x, gamma, beta = leaves(shape)
    assert gradgradcheck(
        lambda *inputs: batch_norm_manual(*inputs)[0],
        (x, gamma, beta),
        upstream(shape).requires_grad_(),
        check_fwd_over_rev=True,
        check_batched_grad=True,
    )


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 2, 2)])
def test_gradients_without_gamma_and_beta(shape) -> None:
    x, _, beta = leaves(shape)
    assert gradcheck(lambda x: batch_norm_manual(x)[0], (x,))
    assert gradcheck(lambda x, beta: batch_norm_manual(x, None, beta)[0], (x, beta))
    assert gradgradcheck(lambda x: batch_norm_manual(x)[0], (x,))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    batch=st.integers(1, 6),
    channels=st.integers(1, 5),
    space=st.sampled_from([(), (1,), (4,), (1, 1), (3, 2)]),
    seed=st.integers(0, 2**16),
)
def test_every_gradient_matches_autograd(batch, channels, space, seed) -> None:
    shape = (batch, channels, *space)
    x, gamma, beta = leaves(shape, seed)
    dy = upstream(shape, seed + 1)
    hand = torch.autograd.grad(batch_norm_manual(x, gamma, beta)[0], (x, gamma, beta), dy)
    auto = torch.autograd.grad(batch_norm_composed(x, gamma, beta)[0], (x, gamma, beta), dy)
    # Two values of a channel normalise to ±1 whatever they are: dx nearly cancels, and its terms
    # (up to gamma / sqrt(eps) * dy) set the size of the rounding.
    inv_std = (x.transpose(0, 1).flatten(1).var(1, correction=0) + 1e-5).rsqrt()
    terms = float((gamma * inv_std).detach().abs().max() * dy.norm())
    for mine, theirs in zip(hand, auto, strict=True):
        assert (mine - theirs).norm() <= 1e-10 * max(float(theirs.norm()), terms)


def test_dx_is_the_formula_of_the_derivation() -> None:
    x, gamma, beta = leaves((9, 4))
    dy = upstream((9, 4))
    (dx,) = torch.autograd.grad(batch_norm_manual(x, gamma, beta)[0], x, dy)
    B, inv_std = 9, (x.var(0, correction=0) + 1e-5).rsqrt()
    xhat, dxhat = (x - x.mean(0)) * inv_std, dy * gamma
    literal = inv_std / B * (B * dxhat - dxhat.sum(0) - xhat * (dxhat * xhat).sum(0))
    torch.testing.assert_close(dx, literal.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_any_subset_of_the_gradients_can_be_asked_for(wanted) -> None:
    inputs = leaves((6, 3))
    dy = upstream((6, 3))
    everything = torch.autograd.grad(batch_norm_manual(*inputs)[0], inputs, dy)
    some = [t if i in wanted else t.detach() for i, t in enumerate(inputs)]
    gradients = torch.autograd.grad(batch_norm_manual(*some)[0], [some[i] for i in wanted], dy)
    for index, gradient in zip(wanted, gradients, strict=True):
        torch.testing.assert_close(gradient, everything[index], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("wanted", "others"), [(1, ["beta_gradient"]), (2, ["gamma_gradient"])])
def test_a_parameter_alone_costs_nothing_else(wanted, others, monkeypatch) -> None:
    for name in ("batch_norm_backward", *others):
        monkeypatch.setattr(function, name, lambda *_: pytest.fail("not asked for"))
    inputs = [t if i == wanted else t.detach() for i, t in enumerate(leaves((6, 3)))]
    y = batch_norm_manual(*inputs)[0]
    assert torch.autograd.grad(y, inputs[wanted], upstream((6, 3)))[0].shape == (3,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_function_agrees_with_torch(dtype) -> None:
    x, gamma, beta = leaves((8, 5, 3, 3), dtype=dtype)
    dy = upstream((8, 5, 3, 3)).to(dtype)
    ours, mean, var, count = BatchNormFunction.apply(x, gamma, beta, 1e-3)
    theirs = nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    torch.testing.assert_close(ours, theirs, **tolerance)
    inputs = (x, gamma, beta)
    for mine, other in zip(
        torch.autograd.grad(ours, inputs, dy), torch.autograd.grad(theirs, inputs, dy), strict=True
    ):
        torch.testing.assert_close(mine, other, **tolerance)
    values = x.detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, values.mean(1), **tolerance)
    torch.testing.assert_close(var, values.var(1, correction=0), **tolerance)
    assert count == 8 * 3 * 3
    assert not mean.requires_grad
