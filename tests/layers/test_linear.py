"""The linear layer by hand: PyTorch's in all but its speed, and taken only where it should be."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from cifar_lab.layers import linear as module
from cifar_lab.layers import onednn
from cifar_lab.layers.linear import Linear, LinearFunction
from cifar_lab.models import REGISTRY


@pytest.fixture(autouse=True)
def _on_an_amd_with_avx512(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(onednn, "_is_amd_with_avx512", lambda: True)
    onednn.onednn_is_faster.cache_clear()
    if not onednn.onednn_is_faster():
        pytest.skip("this PyTorch lacks oneDNN's operator")
    yield
    onednn.onednn_is_faster.cache_clear()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the products that are taken by hand from now on."""
    shapes: list[tuple[int, ...]] = []

    def counted(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        shapes.append((len(a), len(b)))
        return onednn.linear(a, b, bias)

    monkeypatch.setattr(module, "linear", counted)
    return shapes


def _pair(bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours = Linear(7, 5, bias)
    torch.manual_seed(0)
    return ours, nn.Linear(7, 5, bias)


@pytest.mark.parametrize("bias", [True, False])
def test_first_and_second_derivatives_are_those_of_finite_differences(bias: bool) -> None:
    torch.manual_seed(0)
    shapes = ((5, 4), (3, 4), (3,)) if bias else ((5, 4), (3, 4))
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    inputs += [] if bias else [None]
    assert torch.autograd.gradcheck(LinearFunction.apply, inputs)
    assert torch.autograd.gradgradcheck(LinearFunction.apply, inputs)


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_pytorch_s_layer(
    bias: bool, calls: list[tuple[int, ...]]
) -> None:
    ours, theirs = _pair(bias)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x, upstream = torch.randn(6, 7, requires_grad=True), torch.randn(6, 5)
    found, expected = ours(x), theirs(x)
    torch.testing.assert_close(found, expected)
    mine = torch.autograd.grad(found, [x, *ours.parameters()], upstream)
    wanted = torch.autograd.grad(expected, [x, *theirs.parameters()], upstream)
    for one, other in zip(mine, wanted, strict=True):
        torch.testing.assert_close(one, other)
    assert calls == [(6, 5), (6, 7), (5, 7)]


def test_only_wanted_gradients_are_computed(calls: list[tuple[int, ...]]) -> None:
    ours, _ = _pair()
    ours(torch.randn(6, 7)).sum().backward()
    assert calls == [(6, 5), (5, 7)]
    ours.weight.requires_grad_(False)
    ours.weight.grad = None
    calls.clear()
    ours(torch.randn(6, 7)).sum().backward()
    assert calls == [(6, 5)]
    assert ours.weight.grad is None


def _evaluated(layer: nn.Linear) -> Tensor:
    return layer.eval()(torch.ones(6, 7))


def _autocast(layer: nn.Linear) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return layer(torch.ones(6, 7))


def _vmap(layer: nn.Linear) -> Tensor:
    return torch.func.vmap(layer)(torch.ones(2, 6, 7))


def _compiled(layer: nn.Linear) -> Tensor:
    return torch.compile(layer, backend="eager")(torch.ones(6, 7))


ELSEWHERE = {
    "evaluation": _evaluated,
    "autocast": _autocast,
    "vmap": _vmap,
    "compiled": _compiled,
    "float64": lambda layer: layer.double()(torch.ones(6, 7).double()),
    "no images": lambda layer: layer(torch.ones(0, 7)),
    "three dimensions": lambda layer: layer(torch.ones(2, 6, 7)),
    "one dimension": lambda layer: layer(torch.ones(7)),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_elsewhere_it_is_pytorch_s_layer(case: str, calls: list[tuple[int, ...]]) -> None:
    found, expected = map(ELSEWHERE[case], _pair())
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert not calls


def test_on_another_processor_it_is_pytorch_s_layer(
    monkeypatch: pytest.MonkeyPatch, calls: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(onednn, "_is_amd_with_avx512", lambda: False)
    onednn.onednn_is_faster.cache_clear()
    ours, theirs = _pair()
    x = torch.randn(6, 7)
    assert torch.equal(ours(x), theirs(x))
    assert not calls


def test_a_wrong_shape_is_refused_as_by_pytorch_s_layer() -> None:
    ours, theirs = _pair()
    for layer in (ours, theirs):
        with pytest.raises(RuntimeError, match="6x8 and 7x5"):
            layer(torch.ones(6, 8))


@pytest.mark.parametrize("name", ["mlp", "batchnorm_mlp", "deep_mlp", "fast_mlp"])
def test_the_fully_connected_models_are_made_of_it(name: str) -> None:
    model = REGISTRY[name]()
    linears = [layer for layer in model.network.modules() if type(layer) is nn.Linear]
    assert not linears
    assert any(isinstance(layer, Linear) for layer in model.network.modules())
