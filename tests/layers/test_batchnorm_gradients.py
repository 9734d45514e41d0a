"""The hand-written gradients against finite differences, autograd and the textbook formula."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from cifar_lab.layers import BatchNormFunction, batch_norm_composed

SHAPES = [(2, 3), (7, 1), (5, 4), (2, 3, 4), (1, 2, 3, 2), (3, 2, 2, 3)]


def leaves(
    shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """x, gamma and beta; none of them at a special value."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (shape, shape[1:2], shape[1:2])
    tensors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def manual(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    return BatchNormFunction.apply(x, gamma, beta, eps)[0]


def upstream(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    """A random gradient: of all ones, that of x would be about zero whatever the formula."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_finite_differences(shape) -> None:
    assert gradcheck(manual, leaves(shape))


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3), (2, 1, 2, 2)])
def test_second_derivatives_are_those_of_finite_differences(shape) -> None:
    assert gradgradcheck(manual, leaves(shape), upstream(shape).requires_grad_())


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 2, 2)])
def test_gradients_without_gamma_and_beta(shape) -> None:
    x, _, beta = leaves(shape)
    assert gradcheck(manual, (x,))
    assert gradcheck(lambda x, beta: manual(x, None, beta), (x, beta))
    assert gradgradcheck(manual, (x,))


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
    inputs = (x, gamma, beta)
    hand = torch.autograd.grad(manual(*inputs), inputs, dy)
    differentiable = torch.autograd.grad(manual(*inputs), inputs, dy, create_graph=True)
    auto = torch.autograd.grad(batch_norm_composed(*inputs)[0], inputs, dy)
    # Two values of a channel normalise to ±1 whatever they are: dx nearly cancels, and its terms
    # (up to gamma / sqrt(eps) * dy) set the size of the rounding.
    inv_std = (x.transpose(0, 1).flatten(1).var(1, correction=0) + 1e-5).rsqrt()
    terms = float((gamma * inv_std).detach().abs().max() * dy.norm())
    for found in (hand, differentiable):
        for mine, theirs in zip(found, auto, strict=True):
            assert (mine - theirs).norm() <= 1e-12 * max(float(theirs.norm()), terms)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_any_subset_of_the_gradients_can_be_asked_for(wanted) -> None:
    inputs = leaves((6, 3))
    dy = upstream((6, 3))
    everything = torch.autograd.grad(manual(*inputs), inputs, dy)
    some = [t if i in wanted else t.detach() for i, t in enumerate(inputs)]
    gradients = torch.autograd.grad(manual(*some), [some[i] for i in wanted], dy)
    for index, gradient in zip(wanted, gradients, strict=True):
        torch.testing.assert_close(gradient, everything[index], rtol=1e-12, atol=1e-12)


def test_no_large_tensor_is_computed_where_x_needs_no_gradient(monkeypatch) -> None:
    x, gamma, beta = leaves((6, 3))
    y = manual(x.detach(), gamma, beta)
    module = sys.modules[BatchNormFunction.__module__]
    monkeypatch.setattr(module, "channel_map", lambda *_: pytest.fail("dx is not needed"))
    assert torch.autograd.grad(y, gamma, upstream((6, 3)))[0].shape == (3,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_function_agrees_with_torch(dtype) -> None:
    inputs, dy = leaves((8, 5, 3, 3), dtype=dtype), upstream((8, 5, 3, 3)).to(dtype)
    ours, mean, var = BatchNormFunction.apply(*inputs, 1e-3)
    theirs = nn.functional.batch_norm(inputs[0], None, None, *inputs[1:], training=True, eps=1e-3)
    values = inputs[0].detach().transpose(0, 1).flatten(1)
    found = [ours, *torch.autograd.grad(ours, inputs, dy), mean, var]
    expected = [theirs, *torch.autograd.grad(theirs, inputs, dy)]
    expected += [values.mean(1), values.var(1, correction=0)]
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    torch.testing.assert_close(found, expected, **tolerance)
    assert not mean.requires_grad
    assert not var.requires_grad
