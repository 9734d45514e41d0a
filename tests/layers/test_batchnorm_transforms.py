"""The hand-written form under torch.func, torch.compile and batched gradients."""

import pytest
import torch
from torch import Tensor, nn

from cifar_lab.layers import BatchNorm1d, BatchNorm2d, BatchNormFunction, batch_norm_composed

# PyTorch's own forward-mode rules are scripted when first used, and scripting is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHTS = randn(4, 2, 3, seed=7)  # so that the channels' values do not enter alike


def manual(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return BatchNormFunction.apply(x, gamma, beta)[0]


def composed(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return batch_norm_composed(x, gamma, beta)[0]


def loss(function, *inputs: Tensor) -> Tensor:
    return (function(*inputs) * WEIGHTS).pow(3).sum()


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: torch.func.grad(lambda *i: loss(f, *i), argnums=(0, 1, 2)),
        lambda f: torch.func.jacrev(f, argnums=(0, 1, 2)),
        lambda f: torch.func.jacfwd(f, argnums=(0, 1, 2)),
        lambda f: torch.func.hessian(lambda *i: loss(f, *i), argnums=(0, 1)),
        lambda f: lambda *i: torch.func.jvp(f, i, tuple(3 * t for t in i)),
    ],
    ids=["grad", "jacrev", "jacfwd", "hessian", "jvp"],
)
def test_functional_transforms_agree_with_the_composed_form(transform) -> None:
    inputs = randn(4, 2, 3), randn(2, seed=1), randn(2, seed=2)
    torch.testing.assert_close(transform(manual)(*inputs), transform(composed)(*inputs))


@pytest.mark.parametrize("in_dims", [(0, None, None), (1, 0, 1), (None, 0, 0)])
def test_vmap_is_a_loop(in_dims) -> None:
    shapes = (5, 2), (2,), (2,)
    inputs = []
    for seed, (shape, dim) in enumerate(zip(shapes, in_dims, strict=True)):
        inputs.append(randn(*shape, seed=seed) if dim is None else randn(*shape, 3, seed=seed))
        if dim is not None:
            inputs[-1] = inputs[-1].movedim(-1, dim)
    together = torch.func.vmap(manual, in_dims)(*inputs)
    for index in range(3):
        one = [
            tensor if dim is None else tensor.select(dim, index)
            for tensor, dim in zip(inputs, in_dims, strict=True)
        ]
        torch.testing.assert_close(together[index], manual(*one))


def test_module_under_torch_func() -> None:
    module = BatchNorm1d(3, track_running_stats=False).double()
    parameters, x = dict(module.named_parameters()), randn(6, 3)
    gradients = torch.func.grad(lambda p: torch.func.functional_call(module, p, x).pow(3).sum())(
        parameters
    )
    module(x).pow(3).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_batched_upstream_gradients() -> None:
    x = randn(4, 2).requires_grad_()
    y = BatchNorm1d(2).double()(x)
    (rows,) = torch.autograd.grad(y, x, torch.eye(8).double().view(8, 4, 2), is_grads_batched=True)
    jacobian = torch.autograd.functional.jacobian(lambda x: composed(x, None, None), x)
    torch.testing.assert_close(rows.view(4, 2, 4, 2), jacobian)


def train_step(module: nn.Module, call, x: Tensor, dy: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = call(x)
    gradients = torch.autograd.grad(y, (x, *module.parameters()), dy)
    return [y.detach(), *gradients, *(buffer.clone() for buffer in module.buffers())]


# The compiler of older releases makes an instance of the Function, which PyTorch warns of.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("form", ["manual", "composed"])
def test_compiles_whole(form) -> None:
    torch.compiler.reset()
    x, dy = randn(4, 3, 5, 5), randn(4, 3, 5, 5, seed=1)
    module = BatchNorm2d(3, form=form).double()
    expected = train_step(module, module, x, dy)
    module.reset_running_stats()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for mine, theirs in zip(train_step(module, compiled, x, dy), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert not module.running_mean.requires_grad
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), module(x))
