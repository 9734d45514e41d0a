"""Rounding and memory: large offsets, constant channels, half precision, training, peak memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from cifar_lab.layers import BatchNorm2d, BatchNormFunction, batch_norm

LAYOUTS = pytest.mark.parametrize(
    ("dims", "memory_format"),
    [(1, torch.contiguous_format), (2, torch.contiguous_format), (2, torch.channels_last)],
)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def manual(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    return BatchNormFunction.apply(x, gamma, beta, 1e-5)


def exact(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalization of the values as they are, in float64."""
    return nn.functional.batch_norm(x.double(), None, None, training=True, eps=eps)


@LAYOUTS
def test_mean_1e4_and_deviation_1_are_as_accurate_as_in_torch(dims, memory_format) -> None:
    shape = [(200, 16), (32, 16, 12, 12)][dims - 1]
    x = (randn(*shape) + 1e4).float().to(memory_format=memory_format)
    expected = exact(x)
    y, mean, var = manual(x)
    # Neighbouring float32 values at 1e4 are 1e-3 apart.
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=2e-3)
    values = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.double(), values.mean(1), rtol=1e-7, atol=0)
    torch.testing.assert_close(var.double(), values.var(1, correction=0), rtol=1e-5, atol=0)


def test_gradient_at_mean_1e4_is_accurate() -> None:
    x, dy = (randn(200, 16) + 1e4).float(), randn(200, 16, seed=1).float()
    wide = x.double().requires_grad_()
    (expected,) = torch.autograd.grad(exact(wide), wide, dy.double())
    (dx,) = torch.autograd.grad(manual(x.requires_grad_())[0], x, dy)
    torch.testing.assert_close(dx.double(), expected, rtol=0, atol=1e-3)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    constant=st.floats(-1e6, 1e6, width=32),
    batch=st.integers(2, 9),
    gamma=st.floats(-2, 2, width=32),
)
def test_constant_channel_gives_finite_results(constant, batch, gamma) -> None:
    inputs = [torch.full((batch, 1), constant), torch.tensor([gamma]), torch.tensor([0.5])]
    for tensor in inputs:
        tensor.requires_grad_()
    y, mean, var = manual(*inputs)
    assert var == 0
    assert mean == constant
    # beta, but for the rounding of gamma * x / sqrt(eps).
    rounding = 4 * torch.finfo(torch.float32).eps * abs(constant * gamma) / 1e-5**0.5
    assert (y - 0.5).abs().max() <= rounding + 1e-6
    for gradient in torch.autograd.grad(y, inputs, torch.randn(batch, 1)):
        assert gradient.isfinite().all()


def test_one_outlier_among_many_is_accurate() -> None:
    # The first value is the shift of the sums; here it is as far from the mean as a value can be,
    # which costs a factor of B in rounding.
    x = randn(4096, 3).float()
    x[0] = 1e4
    y, _, var = manual(x)
    torch.testing.assert_close(var.double(), x.double().var(0, correction=0), rtol=1e-3, atol=0)
    torch.testing.assert_close(y.double(), exact(x), rtol=1e-3, atol=1e-4)


def test_rounding_never_makes_a_variance_negative() -> None:
    x = torch.zeros(2**24, 1)
    x[0] = 1e6  # with so many values, the rounding of one outlier can outweigh the variance
    y, _, var = manual(x)
    assert var >= 0
    assert y.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(40, 6), (20, 6, 7, 7), (3, 6, 200, 200)])
def test_half_precision_has_float32_statistics_and_the_input_dtype(dtype, shape) -> None:
    x = (3 * randn(*shape) + 5).to(dtype).requires_grad_()
    gamma, beta = torch.full((6,), 1.5, requires_grad=True), torch.ones(6, requires_grad=True)
    dy = randn(*shape, seed=1).to(dtype)
    y, mean, var = manual(x, gamma, beta)
    dx, dgamma, dbeta = torch.autograd.grad(y, (x, gamma, beta), dy)
    assert {y.dtype, dx.dtype} == {dtype}
    assert {mean.dtype, var.dtype} == {torch.float32}
    wide = [t.detach().double().requires_grad_() for t in (x, gamma, beta)]
    expected = nn.functional.batch_norm(wide[0], None, None, *wide[1:], training=True)
    resolution = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), expected, rtol=resolution, atol=1e-5)
    gradients = torch.autograd.grad(expected, wide, dy.double())
    torch.testing.assert_close(dx.double(), gradients[0], rtol=resolution, atol=1e-4)
    torch.testing.assert_close(dgamma.double(), gradients[1], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(dbeta.double(), gradients[2], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("training", [True, False])
def test_autocast_agrees_with_torch(training) -> None:
    results = []
    for kind in ("manual", "composed", "native"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), batch_norm(8, 2, kind)).train(training)
        x = torch.randn(8, 3, 9, 9)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(x)
        y.float().square().mean().backward()
        assert y.dtype == torch.bfloat16
        assert model[1].running_var.dtype == torch.float32
        results.append([y.float(), *(p.grad for p in model.parameters()), model[1].running_var])
    for ours in results[:2]:
        torch.testing.assert_close(ours, results[2], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_stays_channels_last(dtype) -> None:
    contiguous = randn(4, 6, 5, 3).to(dtype)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = contiguous.to(memory_format=memory_format).requires_grad_()
        y = BatchNorm2d(6)(x)
        # The upstream gradient may come in the other layout.
        (dx,) = torch.autograd.grad(y, x, randn(4, 6, 5, 3, seed=1).to(dtype))
        assert y.is_contiguous(memory_format=memory_format)
        assert dx.is_contiguous(memory_format=memory_format)
        results.append((y, dx))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_views_and_expanded_gradients_are_taken() -> None:
    x = randn(6, 5, 4).transpose(0, 2)[::2].requires_grad_()
    y = manual(x)[0]
    dx = torch.autograd.grad(y.sum(), x)[0]
    torch.testing.assert_close(y, exact(x))
    assert dx.abs().max() < 1e-12


def peak_bytes(module: nn.Module, x: Tensor, dy: Tensor) -> int:
    """The most that forward plus backward hold at once, beside what was there before."""

    def step() -> None:
        x.grad = None
        module(x).backward(dy)

    step()  # gradients of parameters are allocated once
    x.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as trace:
        step()
    events = trace.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peak_is_at_most_that_of_torch(dims, memory_format, dtype) -> None:
    shape = [(200, 1024), (32, 256, 16, 16)][dims - 1]
    x, dy = (torch.randn(shape).to(dtype).to(memory_format=memory_format) for _ in range(2))
    x.requires_grad_()
    ours, theirs = (
        peak_bytes(batch_norm(shape[1], dims, kind), x, dy) for kind in ("manual", "native")
    )
    least = 2 * x.numel() * x.element_size()  # y and dx
    assert least <= ours <= theirs


def test_only_x_and_channel_sized_tensors_are_saved() -> None:
    x, gamma, beta = torch.randn(64, 8, 4, 4), torch.randn(8), torch.randn(8)
    for tensor in (x, gamma, beta):
        tensor.requires_grad_()
    saved: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        manual(x, gamma, beta)
    large = [tensor for tensor in saved if tensor.numel() > 8]
    assert [tensor.data_ptr() for tensor in large] == [x.data_ptr()]
    assert sum(tensor.numel() for tensor in saved) <= x.numel() + 3 * 8 + 1


def test_output_may_be_overwritten() -> None:
    # An in-place ReLU behind the layer: y is not needed any more.
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    manual(x)[0].relu_().square().sum().backward()
    assert x.grad.abs().max() > 0
