"""Muon: its plain groups are SGD's, its orthogonal ones follow the definition."""

from functools import partial
from math import sqrt

import pytest
import torch
from torch import nn

from cifar_lab.optimizers import muon
from cifar_lab.optimizers.muon import COEFFICIENTS, Muon


def orthogonalize(matrix: torch.Tensor, iterations: int) -> torch.Tensor:
    return muon.orthogonalize([matrix], iterations)[0]


def _matrix(rows: int, columns: int) -> torch.Tensor:
    """A random matrix with singular values from 1 to 0.1."""
    torch.manual_seed(rows)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns).double(), full_matrices=False)
    return u @ torch.linspace(1, 0.1, min(rows, columns)).double().diag() @ v


def test_a_plain_group_does_what_sgd_does() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3).double(), nn.Linear(5, 3).double()
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01}
    first = Muon(ours.parameters(), **options)
    second = torch.optim.SGD(theirs.parameters(), nesterov=True, **options)

    def closure(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        return loss

    for _ in range(6):
        x = torch.randn(7, 5).double()
        loss = first.step(partial(closure, ours, x))
        expected = second.step(partial(closure, theirs, x))
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize(("rows", "columns"), [(6, 20), (20, 6), (8, 8)])
def test_orthogonalize_is_newton_and_schulz_s_iteration(
    rows: int, columns: int, iterations: int
) -> None:
    matrix = _matrix(rows, columns)
    u, lengths, v = torch.linalg.svd(matrix, full_matrices=False)
    lengths = lengths / matrix.norm()
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        lengths = a * lengths + b * lengths**3 + c * lengths**5
    found = orthogonalize(matrix, iterations)
    torch.testing.assert_close(found, u @ lengths.diag() @ v, rtol=0, atol=1e-6)
    turned = u.mT @ found @ v.mT  # diagonal: the singular directions are kept
    torch.testing.assert_close(turned, turned.diagonal().diag(), rtol=0, atol=1e-9)
    if iterations == 3:
        assert 0.68 < turned.diagonal().min() <= turned.diagonal().max() < 1.21


def test_orthogonalize_is_as_exact_in_float32_where_the_singular_values_differ_much() -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(64, 300).double(), full_matrices=False)
    matrix = u @ torch.logspace(0, -6, 64).double().diag() @ v
    exact = orthogonalize(matrix, 3)
    error = orthogonalize(matrix.float(), 3).double() - exact
    assert error.norm() < 2e-5 * exact.norm()


def test_matrices_of_the_same_short_side_are_orthogonalized_together() -> None:
    matrices = [_matrix(*shape) for shape in ((6, 20), (20, 6), (8, 8), (6, 9), (6, 6))]
    found = muon.orthogonalize(matrices, 3)
    for matrix, together in zip(matrices, found, strict=True):
        torch.testing.assert_close(together, orthogonalize(matrix, 3), rtol=1e-9, atol=1e-12)


def test_orthogonalize_computes_half_precision_in_float32() -> None:
    matrix = _matrix(20, 6).bfloat16()
    found = orthogonalize(matrix, 3)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, orthogonalize(matrix.float(), 3).bfloat16())


def test_orthogonalize_takes_gradients_of_any_size_and_zero() -> None:
    matrix = _matrix(4, 9)
    tiny = orthogonalize(1e-3 * matrix, 3)
    torch.testing.assert_close(tiny, orthogonalize(1e3 * matrix, 3), rtol=1e-3, atol=1e-3)
    assert torch.equal(orthogonalize(torch.zeros(3, 4), 3), torch.zeros(3, 4))


def test_a_filter_moves_by_the_rate_times_the_orthogonal_momentum_and_keeps_its_norm() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3, 2, 2).double())
    # Weight decay is for plain groups: here the norm is fixed.
    optimizer = Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.3, orthogonal=True)
    momentum = torch.zeros(4, 3, 2, 2).double()
    for gradient in torch.randn(2, 4, 3, 2, 2).double():
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.5 * momentum + gradient
        update = orthogonalize((gradient + 0.5 * momentum).flatten(1), 3).reshape(4, 3, 2, 2)
        scaled = before * sqrt(4) / before.norm()
        torch.testing.assert_close(weight.detach(), scaled - 0.1 * update)


def test_the_layout_of_a_filter_changes_nothing() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(2, 8, 4, 3, 3)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone().to(memory_format=layout))
        weight.grad = gradient.clone().to(memory_format=layout)
        Muon([weight], lr=0.1, orthogonal=True).step()
        assert weight.is_contiguous(memory_format=layout)
        found.append(weight.detach())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr 0.0"),
        ({"lr": float("nan")}, "lr nan"),
        ({"lr": 0.1, "momentum": 1.0}, "momentum 1.0"),
        ({"lr": 0.1, "orthogonal": True}, "at least two dimensions"),
    ],
)
def test_values_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([nn.Parameter(torch.ones(3))], **options)
