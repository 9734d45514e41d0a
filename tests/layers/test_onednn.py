"""Products by either library are the product, and only a right one is taken."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_lab.layers import onednn as module
from cifar_lab.layers.onednn import linear


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    module.onednn_is_faster.cache_clear()
    yield
    module.onednn_is_faster.cache_clear()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("amd", [False, True])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 5, 3), (200, 96, 130)])
def test_it_is_the_product_in_every_layout(
    monkeypatch: pytest.MonkeyPatch,
    amd: bool,
    biased: bool,
    turned: tuple[bool, bool],
    sizes: tuple[int, int, int],
) -> None:
    monkeypatch.setattr(module, "_is_amd_with_avx512", lambda: amd)
    torch.manual_seed(0)
    rows, columns, inner = sizes
    a, b = torch.randn(rows, inner), torch.randn(columns, inner)
    bias = torch.randn(columns) if biased else None
    exact = a.double() @ b.double().t()
    exact = exact if bias is None else exact + bias.double()
    a, b = (x.t().contiguous().t() if turn else x for x, turn in zip((a, b), turned, strict=True))
    with torch.no_grad():
        found = linear(a, b, bias)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert (found.double() - exact).norm() < 1e-6 * exact.norm()


def _calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtypes that oneDNN's operator is asked for from now on, after it was tried."""
    monkeypatch.setattr(module, "_is_amd_with_avx512", lambda: True)
    if not module.onednn_is_faster():
        pytest.skip("this PyTorch lacks the operator")
    calls = []

    def counted(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        calls.append(a.dtype)
        return a @ b.t()

    monkeypatch.setattr(module, "_onednn", counted)
    return calls


def test_only_float32_without_autograd_is_onednn_s(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _calls(monkeypatch)
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    linear(a, b).sum().backward()
    torch.testing.assert_close(a.grad, b.sum(0).expand(3, 4))
    with torch.no_grad():
        linear(a.double(), b.double())
        linear(a.bfloat16(), b.bfloat16())
        assert not calls
        linear(a, b)
    assert calls == [torch.float32]


def _missing(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    raise AttributeError("no such operator")


def _inexact(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(a, b, bias) + 0.01


def _without_bias(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(a, b)


@pytest.mark.parametrize("broken", [_missing, _inexact, _without_bias])
def test_an_operator_that_is_missing_or_wrong_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, broken
) -> None:
    monkeypatch.setattr(module, "_is_amd_with_avx512", lambda: True)
    monkeypatch.setattr(module, "_onednn", broken)
    a, b = torch.randn(3, 4), torch.randn(5, 4)
    with torch.no_grad():
        assert torch.equal(linear(a, b), a @ b.t())
        assert not module.onednn_is_faster()


@pytest.mark.parametrize(
    ("capability", "vendor", "expected"),
    [
        ("AVX512", "AuthenticAMD", True),
        ("AVX2", "AuthenticAMD", False),
        ("AVX512", "GenuineIntel", False),
    ],
)
def test_it_is_for_processors_of_amd_with_avx512(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capability: str, vendor: str, expected: bool
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"vendor_id : {vendor}\n")
    monkeypatch.setattr(module, "Path", lambda name: path)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert module._is_amd_with_avx512() == expected
    path.unlink()
    assert not module._is_amd_with_avx512()  # elsewhere than on Linux
