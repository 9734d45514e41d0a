"""Dropout: which units stay, what becomes of them, and that nothing else differs from PyTorch's."""

import pytest
import torch
from torch import nn

from cifar_lab.layers.dropout import Dropout


def _mask(layer: nn.Module, *shape: int) -> torch.Tensor:
    return layer(torch.ones(shape))


@pytest.mark.parametrize("p", [0.003, 0.2, 0.5, 0.9])
def test_units_are_zeroed_with_probability_p_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    mask = _mask(Dropout(p), 1000, 1001)
    assert mask.unique().tolist() == [0, pytest.approx(1 / (1 - p), rel=2e-4)]
    deviation = (p / (1 - p) / mask.numel()) ** 0.5  # of the mean of the mask
    assert abs(mask.double().mean() - 1) < 5 * deviation
    share = (mask == 0).double().mean()
    assert abs(share - p) < 5 * (p * (1 - p) / mask.numel()) ** 0.5 + 1 / 2**17


def test_units_are_independent_of_their_neighbours() -> None:
    torch.manual_seed(1)
    mask = (_mask(Dropout(0.3), 2_000_000) == 0).double() - 0.3
    for distance in (1, 2, 3, 4, 5, 8):  # four units share a number
        covariance = (mask[distance:] * mask[:-distance]).mean()
        assert abs(covariance) < 5 * 0.3 * 0.7 / len(mask) ** 0.5


def test_what_is_zeroed_gets_no_gradient() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(7, 13, dtype=torch.float64, requires_grad=True)
    outputs = Dropout(0.4)(inputs)
    outputs.sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(outputs, inputs * inputs.grad)
    assert 0 < (inputs.grad == 0).sum() < inputs.numel()


def test_the_seed_decides() -> None:
    layer = Dropout(0.5)
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(_mask(layer, 9, 9))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])
    torch.manual_seed(0)
    assert not torch.equal(_mask(layer, 9, 9), _mask(layer, 9, 9))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0, 5), (2, 3, 5), (2, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = torch.ones(shape, dtype=dtype)
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    outputs = Dropout(0.5)(inputs)
    assert outputs.shape == shape
    assert outputs.dtype == dtype
    assert all(value in (0, 2) for value in outputs.flatten().tolist())


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True), (1.0, True), (1e-6, True)])
def test_nothing_to_draw(p: float, training: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(5, 6)
    layer = Dropout(p).train(training)
    torch.testing.assert_close(layer(inputs), inputs * (0 if p == 1 else 1), rtol=1e-5, atol=0)
