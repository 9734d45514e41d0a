"""What the hand-written form keeps and allocates, against PyTorch's own."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from cifar_lab.layers import batch_norm
from cifar_lab.layers.function import batch_norm_manual


def saved_by(function, *inputs: Tensor) -> list[Tensor]:
    saved: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        function(*inputs)
    return saved


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


@pytest.mark.parametrize("shape", [(200, 1024), (32, 256, 16, 16)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peak_is_at_most_that_of_torch(shape, memory_format, dtype) -> None:
    if len(shape) == 2 and memory_format == torch.channels_last:
        pytest.skip("only images have channels last")
    x, dy = (torch.randn(shape).to(dtype).to(memory_format=memory_format) for _ in range(2))
    x.requires_grad_()
    dims = 1 if len(shape) == 2 else 2
    ours, theirs = (
        peak_bytes(batch_norm(shape[1], dims, kind), x, dy) for kind in ("manual", "native")
    )
    least = 2 * x.numel() * x.element_size()  # y and dx
    assert least <= ours <= theirs


def test_only_x_and_channel_sized_tensors_are_saved() -> None:
    x, gamma, beta = torch.randn(64, 8, 4, 4), torch.randn(8), torch.randn(8)
    for tensor in (x, gamma, beta):
        tensor.requires_grad_()
    saved = saved_by(batch_norm_manual, x, gamma, beta)
    large = [tensor for tensor in saved if tensor.numel() > 8]
    assert [tensor.data_ptr() for tensor in large] == [x.data_ptr()]
    assert sum(tensor.numel() for tensor in saved) <= x.numel() + 3 * 8 + 1


def test_nothing_is_saved_where_only_beta_wants_a_gradient() -> None:
    assert saved_by(batch_norm_manual, torch.randn(6, 3), torch.ones(3), torch.ones(3)) == []
    beta = torch.zeros(3, requires_grad=True)
    assert saved_by(batch_norm_manual, torch.randn(6, 3), torch.ones(3), beta) == []


def test_output_may_be_overwritten() -> None:
    # An in-place ReLU behind the layer: y is not needed any more.
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    batch_norm_manual(x)[0].relu_().square().sum().backward()
    assert x.grad.abs().max() > 0
