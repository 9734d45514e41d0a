"""The modules are drop-in for PyTorch's: values, gradients, state, modes and errors."""

import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from cifar_lab.layers import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNormFunction,
    batch_norm,
    batch_norm_composed,
)

LAYERS = [
    (BatchNorm1d, nn.BatchNorm1d, (6, 4)),
    (BatchNorm1d, nn.BatchNorm1d, (5, 4, 3)),
    (BatchNorm2d, nn.BatchNorm2d, (3, 4, 5, 2)),
]
SETTINGS = [
    {},
    {"affine": False},
    {"momentum": None},
    {"momentum": 0.3, "eps": 1e-2},
    {"track_running_stats": False},
]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def twins(ours, theirs, **settings) -> tuple[nn.Module, nn.Module]:
    """One of each with the same random gamma and beta, in float64; their states are alike."""
    form = {"form": settings.pop("form", "manual")}
    one, other = ours(4, **settings, **form).double(), theirs(4, **settings).double()
    for parameter in one.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    other.load_state_dict(one.state_dict())
    return one, other


def results(module: nn.Module, call, x: Tensor, dy: Tensor) -> list[Tensor]:
    """The output, all gradients and the running statistics behind them."""
    x = x.clone().requires_grad_()
    y = call(x)
    gradients = torch.autograd.grad(y, (x, *module.parameters()), dy)
    return [y.detach(), *gradients, *(buffer.clone() for buffer in module.buffers())]


@pytest.mark.parametrize("form", ["manual", "composed"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("ours", "theirs", "shape"), LAYERS)
def test_three_steps_and_evaluation_agree(ours, theirs, shape, settings, form) -> None:
    modules = twins(ours, theirs, form=form, **settings)
    for step in range(4):
        for module in modules:
            module.train(step < 3)
        uses_batch = step < 3 or modules[0].running_mean is None
        x = (3 * randn(*shape, seed=step) + 2)[: None if uses_batch else 1]
        dy = randn(*x.shape, seed=step + 9)
        mine, expected = (results(module, module, x, dy) for module in modules)
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-9)


def test_code_that_looks_for_the_classes_of_torch_finds_these() -> None:
    model = nn.Sequential(nn.Linear(4, 4), BatchNorm1d(4))
    update_bn([torch.randn(8, 4) + 7, torch.randn(8, 4) + 9], model)
    assert isinstance(model[1], nn.BatchNorm1d)
    assert model[1].num_batches_tracked == 2


def test_copy_and_repr() -> None:
    layer = BatchNorm2d(4, momentum=None, form="composed")
    layer(torch.randn(2, 4, 3, 3))
    copied = copy.deepcopy(layer)
    torch.testing.assert_close(copied.running_var, layer.running_var, rtol=0, atol=0)
    assert "momentum=None" in repr(copied)
    assert "form='composed'" in repr(copied)


def test_factory_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"batchnorm 'auto'.*manual, composed, native"):
        batch_norm(4, 1, "auto")
    with pytest.raises(KeyError, match="3"):
        batch_norm(4, 3, "native")
    with pytest.raises(ValueError, match=r"form='native'.*manual, composed"):
        BatchNorm1d(4, form="native")


@pytest.mark.parametrize("form", ["manual", "composed"])
@pytest.mark.parametrize(
    ("layer", "shape"), [(BatchNorm1d, (1, 4)), (BatchNorm2d, (1, 4, 1, 1)), (BatchNorm1d, (0, 4))]
)
def test_fewer_than_two_values_raise_in_training_only(layer, shape, form) -> None:
    module = layer(4, form=form)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        module(torch.randn(shape))
    assert module.num_batches_tracked == 0
    assert module.eval()(torch.randn(shape)).shape == shape


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            BatchNorm1d,
            (2, 4, 3, 3),
            r"expected \(B, C\) or \(B, C, L\) with.* 4, got \(2, 4, 3, 3\)",
        ),
        (BatchNorm2d, (2, 4), r"expected \(B, C, H, W\) with.* = 4, got \(2, 4\)"),
        (BatchNorm1d, (2, 5), r"C = num_features = 4.*\(2, 5\)"),
        (BatchNorm1d, (4,), r"expected \(B, C\) or .*\(4,\)"),
    ],
)
def test_wrong_shapes_are_named(layer, shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        layer(4)(torch.randn(shape))


@pytest.mark.parametrize("function", [BatchNormFunction.apply, batch_norm_composed])
def test_function_names_both_shapes(function) -> None:
    x = torch.randn(5, 4)
    with pytest.raises(ValueError, match=r"gamma of shape \(3,\).*\(5, 4\).*\(4,\)"):
        function(x, torch.ones(3), None, 1e-5)
    with pytest.raises(ValueError, match=r"beta of shape \(4, 1\).*\(5, 4\)"):
        function(x, None, torch.ones(4, 1), 1e-5)
    for shape in ((4,), (5, 0), (0, 4)):
        with pytest.raises(ValueError, match=rf"\(B, C, \.\.\.\).*{re.escape(str(shape))}"):
            function(torch.randn(shape), None, None, 1e-5)
    with pytest.raises(ValueError, match=r"floating-point.*int64"):
        function(x.long(), None, None, 1e-5)


# The compiler of older releases makes an instance of the Function, which PyTorch warns of.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("form", ["manual", "composed"])
def test_compiles_whole(form) -> None:
    torch.compiler.reset()
    x, dy = randn(4, 3, 5, 5), randn(4, 3, 5, 5, seed=1)
    module = BatchNorm2d(3, form=form).double()
    expected = results(module, module, x, dy)
    module.reset_running_stats()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for mine, theirs in zip(results(module, compiled, x, dy), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert not module.running_mean.requires_grad
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), module(x))
