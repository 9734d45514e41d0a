"""The cases of the backward passes written by hand for torch in `cifar_lab.layers`.

Torch runs both sides here: the form's own backward pass, and autograd through elementary
operations. For the second derivatives the function that is checked is itself a gradient.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.batch_norm_cases import batch_norm_reference, batch_norm_terms
from cifar_lab.gradient_check.case import Case, Params, Rng, spread
from cifar_lab.layers import BatchNorm2d, BatchNormFunction, batch_norm_composed
from cifar_lab.layers.linear import LinearFunction
from cifar_lab.layers.weight_norm import WeightNormFunction
from cifar_lab.numpy_reference.checks import Array, after_forward

EPS = 1e-5
Function = Callable[[Tensor, Params], Tensor]


class TorchForm:
    """An adapter that makes a torch function a NumPy layer; its gradients are torch's.

    Args:
        function: takes the input and the parameters, both tensors.
        params: name to array.
    """

    def __init__(self, function: Function, params: dict[str, Array]) -> None:
        self.function = function
        self.params = params
        self.grads: dict[str, Array] = {}
        self._saved: tuple[Tensor, dict[str, Tensor]] | None = None

    def forward(self, x: Array) -> Array:
        """Return the function's value for `x`."""
        inputs = {"x": x, **self.params}
        tensors = {name: torch.tensor(a, requires_grad=True) for name, a in inputs.items()}
        params = {name: tensors[name] for name in self.params}
        y = self.function(tensors["x"], params)
        self._saved = y, tensors
        return y.detach().numpy()

    def backward(self, dout: Array) -> Array:
        """Fill `grads` and return the gradient with respect to `x`."""
        y, tensors = after_forward(self._saved)
        inputs = list(tensors.values())
        grads = torch.autograd.grad(y, inputs, torch.tensor(dout), retain_graph=True)
        arrays = {name: grad.numpy() for name, grad in zip(tensors, grads, strict=True)}
        self.grads = {name: arrays[name] for name in self.params}
        return arrays["x"]


def composed(x: Tensor, params: Params) -> Tensor:
    """`batch_norm_composed`."""
    return batch_norm_composed(x, params["gamma"], params["beta"], EPS)[0]


def function(x: Tensor, params: Params) -> Tensor:
    """`BatchNormFunction`."""
    return BatchNormFunction.apply(x, params["gamma"], params["beta"], EPS, False)[0]


def module(x: Tensor, params: Params) -> Tensor:
    """`BatchNorm2d`, its weight and bias from outside."""
    layer = BatchNorm2d(x.shape[1], eps=EPS)
    return torch.func.functional_call(
        layer, {"weight": params["gamma"], "bias": params["beta"]}, (x,)
    )


def linear(rng: Rng) -> Case:
    """`LinearFunction`, with the numbers and the reference of the NumPy layer."""
    case = cases.linear(rng)

    def form(x: Tensor, params: Params) -> Tensor:
        return LinearFunction.apply(x, params["weight"], params["bias"])

    return replace(case, layer=TorchForm(form, case.params))


def weight_norm(rng: Rng) -> Case:
    """`WeightNormFunction`, with the numbers and the reference of the NumPy layer."""
    case = cases.weight_norm(rng)

    def form(x: Tensor, params: Params) -> Tensor:
        return WeightNormFunction.apply(x, params["g"], params["v"], params["bias"])

    return replace(case, layer=TorchForm(form, case.params))


def _first(form: Function) -> Callable[[Rng], Case]:
    def build(rng: Rng) -> Case:
        x = spread(rng, (2, 3, 3, 2))
        params: dict[str, Array] = {"gamma": rng.normal(size=3), "beta": rng.normal(size=3)}
        return Case(
            TorchForm(form, params), x, batch_norm_reference(4, EPS), terms=batch_norm_terms(EPS)
        )

    return build


def _second(form: Function) -> Callable[[Rng], Case]:
    """The gradient of the gradient: of dx, as a function of x and gamma."""

    def build(rng: Rng) -> Case:
        x, upstream = spread(rng, (2, 3, 3, 2)), rng.normal(size=(2, 3, 3, 2))

        def slope(of: Function) -> Function:
            def dx(x: Tensor, params: Params) -> Tensor:
                with_beta = {**params, "beta": torch.zeros_like(params["gamma"])}
                v = torch.tensor(upstream, dtype=x.dtype)
                return torch.autograd.grad(of(x, with_beta), x, v, create_graph=True)[0]

            return dx

        reference = slope(batch_norm_reference(4, EPS))
        return Case(TorchForm(slope(form), {"gamma": rng.normal(size=3)}), x, reference)

    return build


TORCH_CASES: dict[str, Callable[[Rng], Case]] = {
    "torch_composed": _first(composed),
    "torch_function": _first(function),
    "torch_module": _first(module),
    "torch_composed_second": _second(composed),
    "torch_function_second": _second(function),
    "torch_module_second": _second(module),
    "torch_linear": linear,
    "torch_weight_norm": weight_norm,
}
"""Name to builder: what `scripts/check_gradients.py` checks of the torch forms."""
