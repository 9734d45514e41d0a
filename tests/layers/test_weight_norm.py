"""Weight normalisation by the output's scale: PyTorch's parametrization in all but its speed."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from cifar_lab.layers import weight_norm as module
from cifar_lab.layers.weight_norm import WeightNormFunction, WeightNormLinear

NAMES = ("x", "g", "v", "bias")


def _inputs(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = ((5, 4), (3, 1), (3, 4), (3,))
    return {
        name: torch.randn(*shape, dtype=dtype, requires_grad=True)
        for name, shape in zip(NAMES, shapes, strict=True)
    }


def _pair() -> tuple[WeightNormLinear, nn.Module]:
    """Ours and PyTorch's layer with the same parameters, lengths other than those at the start."""
    torch.manual_seed(0)
    ours, theirs = WeightNormLinear(7, 5), weight_norm(nn.Linear(7, 5))
    with torch.no_grad():
        ours.parametrizations.weight.original0.mul_(torch.rand(5, 1) + 0.5)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def _calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The inputs of the hand-written pass from now on."""
    calls: list[Tensor] = []
    scaled = module._scaled

    def counted(x: Tensor, g: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        calls.append(x)
        return scaled(x, g, v)

    monkeypatch.setattr(module, "_scaled", counted)
    return calls


def test_first_and_second_derivatives_are_those_of_finite_differences() -> None:
    inputs = tuple(_inputs().values())
    assert torch.autograd.gradcheck(WeightNormFunction.apply, inputs)
    assert torch.autograd.gradgradcheck(WeightNormFunction.apply, inputs)


def test_values_and_gradients_are_those_of_pytorch_s_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = _calls(monkeypatch)
    ours, theirs = (layer.double() for layer in _pair())
    x = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(6, 5, dtype=torch.float64)
    found, expected = ours(x), theirs(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    mine = torch.autograd.grad(found, [x, *ours.parameters()], upstream)
    wanted = torch.autograd.grad(expected, [x, *theirs.parameters()], upstream)
    for name, one, other in zip(("x", *dict(ours.named_parameters())), mine, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14, msg=name)
    assert len(calls) == 1


@pytest.mark.parametrize(("wanted", "products"), [(True, 3), (False, 2)])
def test_the_input_s_gradient_is_computed_where_it_is_wanted(wanted: bool, products: int) -> None:
    inputs = _inputs()
    inputs["x"] = inputs["x"].detach().requires_grad_(wanted)
    with FlopCounterMode(display=False) as counter:
        WeightNormFunction.apply(*inputs.values()).sum().backward()
    assert counter.get_total_flops() == products * 2 * 5 * 4 * 3
    assert (inputs["x"].grad is not None) == wanted


def test_the_state_at_the_start_is_that_of_pytorch_s_layer() -> None:
    torch.manual_seed(3)
    fresh = WeightNormLinear(7, 5)
    torch.manual_seed(3)
    expected = weight_norm(nn.Linear(7, 5))
    assert all(map(torch.equal, fresh.parameters(), expected.parameters()))


def _error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


def test_under_autocast_it_is_as_exact_as_pytorch_s_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _calls(monkeypatch)
    ours, theirs = WeightNormLinear(300, 200), weight_norm(nn.Linear(300, 200))
    theirs.load_state_dict(ours.state_dict())
    exact = weight_norm(nn.Linear(300, 200).double())
    exact.load_state_dict(ours.state_dict())
    x, upstream = torch.randn(64, 300), torch.randn(64, 200)
    found = {}
    for name, layer in (("ours", ours), ("theirs", theirs), ("exact", exact)):
        given = x.clone().to(next(layer.parameters()).dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=name != "exact"):
            y = layer(given)
        y.backward(upstream.to(y.dtype))
        found[name] = [y.detach(), given.grad, *(p.grad for p in layer.parameters())]
    assert len(calls) == 1
    for mine, other, wanted in zip(*found.values(), strict=True):
        assert mine.dtype == other.dtype
        assert _error(mine, wanted) < 1.5 * _error(other, wanted) + 1e-6


def test_under_autocast_a_float64_input_stays_what_it_is() -> None:
    ours, _ = _pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.double()(torch.randn(6, 7).double()).dtype == torch.float64


@pytest.mark.parametrize("case", ["evaluation", "three dimensions", "compiled"])
def test_elsewhere_it_is_pytorch_s_layer(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _calls(monkeypatch)
    ours, theirs = _pair()
    x = torch.randn(2, 6, 7) if case == "three dimensions" else torch.randn(6, 7)
    ours.train(case != "evaluation")
    forward = torch.compile(ours, backend="eager") if case == "compiled" else ours
    torch.testing.assert_close(forward(x), theirs(x), rtol=0, atol=0)
    assert not calls


def test_nothing_as_large_as_the_weight_is_kept_for_the_backward_pass() -> None:
    ours, theirs = WeightNormLinear(64, 48), weight_norm(nn.Linear(64, 48))

    def largest(layer: nn.Module) -> int:
        sizes = [0]
        parameters = {parameter.data_ptr() for parameter in layer.parameters()}

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel() if tensor.data_ptr() not in parameters else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            layer(torch.randn(2, 64, requires_grad=True))
        return max(sizes)

    assert largest(ours) == 2 * 64
    assert largest(theirs) == 48 * 64
