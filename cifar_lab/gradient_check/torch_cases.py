"""The cases of the backward passes written by hand for PyTorch in ``cifar_lab.layers``.

PyTorch runs both sides here: the form's own backward pass, and autograd through elementary
operations. For second derivatives, the function that is checked is itself a gradient.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.case import Case, Params, Rng, spread
from cifar_lab.gradient_check.cases import EPS, batch_norm_reference, batch_norm_terms
from cifar_lab.layers import BatchNorm2d, BatchNormFunction, batch_norm_composed
from cifar_lab.layers.weight_norm import WeightNormFunction
from cifar_lab.numpy_reference.layer import Array, Layer

SHAPE = (2, 3, 3, 2)  # of the images of batch normalization
Function = Callable[[Tensor, Params], Tensor]


class TorchForm(Layer):
    """Adapt a PyTorch function to the interface of a NumPy layer, with gradients from PyTorch."""

    def __init__(self, function: Function, params: dict[str, Array]) -> None:
        super().__init__()
        self.function, self.params = function, params

    def forward(self, x: Array) -> Array:
        """Return the function's value for ``x``."""
        inputs = {"x": x, **self.params}
        tensors = {name: torch.tensor(a, requires_grad=True) for name, a in inputs.items()}
        y = self.function(tensors["x"], tensors)
        return self._save_for_backward(y.detach().numpy(), (y, tensors))

    def backward(self, dout: Array) -> Array:
        """Fill ``grads`` and return the gradient with respect to ``x``."""
        y, tensors = self._saved_for(dout)
        inputs = list(tensors.values())
        grads = torch.autograd.grad(y, inputs, torch.tensor(dout), retain_graph=True)
        self.grads = {name: grad.numpy() for name, grad in zip(tensors, grads, strict=True)}
        return self.grads.pop("x")


def module(x: Tensor, params: Params) -> Tensor:
    """Call ``BatchNorm2d`` with ``gamma`` and ``beta`` in place of its own weight and bias."""
    weights = {"weight": params["gamma"], "bias": params["beta"]}
    return torch.func.functional_call(BatchNorm2d(x.shape[1], eps=EPS), weights, (x,))


def weight_norm(rng: Rng) -> Case:
    """Build the case of ``WeightNormFunction`` with the numbers of the NumPy layer's case."""
    case = cases.weight_norm(rng)

    def form(x: Tensor, params: Params) -> Tensor:
        return WeightNormFunction.apply(x, params["g"], params["v"], params["bias"])

    return replace(case, layer=TorchForm(form, case.params))


def _first(form: Function) -> Callable[[Rng], Case]:
    """Return a builder for the gradients of a form of batch normalization."""

    def build(rng: Rng) -> Case:
        x = spread(rng, SHAPE)
        params: dict[str, Array] = {"gamma": rng.normal(size=3), "beta": rng.normal(size=3)}
        layer = TorchForm(form, params)
        return Case(layer, x, batch_norm_reference, terms=batch_norm_terms)

    return build


def _second(form: Function) -> Callable[[Rng], Case]:
    """Return a builder for the gradients of dx, as a function of x and gamma."""

    def build(rng: Rng) -> Case:
        x, upstream = spread(rng, SHAPE), rng.normal(size=SHAPE)

        def slope(of: Function) -> Function:
            def dx(x: Tensor, params: Params) -> Tensor:
                with_beta = {**params, "beta": torch.zeros_like(params["gamma"])}
                v = torch.tensor(upstream, dtype=x.dtype)
                return torch.autograd.grad(of(x, with_beta), x, v, create_graph=True)[0]

            return dx

        layer = TorchForm(slope(form), {"gamma": rng.normal(size=3)})
        return Case(layer, x, slope(batch_norm_reference))

    return build


FORMS: dict[str, Function] = {
    "composed": lambda x, p: batch_norm_composed(x, p["gamma"], p["beta"], EPS)[0],
    "function": lambda x, p: BatchNormFunction.apply(x, p["gamma"], p["beta"], EPS)[0],
    "module": module,
}

TORCH_CASES: dict[str, Callable[[Rng], Case]] = {
    **{f"torch_{name}": _first(form) for name, form in FORMS.items()},
    **{f"torch_{name}_second": _second(form) for name, form in FORMS.items()},
    "torch_weight_norm": weight_norm,
}
