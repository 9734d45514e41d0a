"""Adapters that make a student's class a layer of a ``Case``, with parameters that can be set.

They pass copies to the student's code, and return a ``Failure`` if it changes one of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lab.gradient_check.case import Case
from cifar_lab.gradient_check.diagnosis import Failure
from cifar_lab.numpy_reference.layer import Array


class MisfitError(Exception):
    """A student's class is not what the course asks for; the message says what is expected."""


def _call(method: Callable[..., Any], what: str, array: Array, *args: Array) -> Any:
    """Return what a method returns for a copy of an array, unless it changes the copy."""
    given = array.copy()
    result = method(given, *(arg.copy() for arg in args))
    return result if np.array_equal(given, array) else _changed(what)


def _changed(what: str) -> Failure:
    return Failure(f"{what} in place, which other layers still need: compute a new array.")


class ArrayLayer:
    """Adapt a module in NumPy, which keeps its parameters and their gradients in dictionaries."""

    def __init__(self, module: Any, params: dict[str, Array]) -> None:
        self.module, self.params = module, params

    def forward(self, x: Array) -> Any:
        """Return the module's output, after setting its parameters in place."""
        for name, value in self.params.items():
            own = np.asarray(getattr(self.module, "params", {}).get(name))
            if own.dtype.kind != "f" or own.size != value.size or own.shape[-1] != value.shape[-1]:
                raise MisfitError(
                    f'expected params["{name}"], an array of floats of shape {value.shape}; found '
                    f"the shape {own.shape} and dtype {own.dtype}"
                )
            own[...] = value.reshape(own.shape)
        return _call(self.module.forward, "forward changes x", x)

    def backward(self, dout: Array) -> Any:
        """Return the module's gradient of the input, and keep those of its parameters."""
        dx = _call(self.module.backward, "backward changes dout", dout)
        self.grads = {name: self._gradient(name) for name in self.params}
        return dx

    def _gradient(self, name: str) -> Any:
        """Return the gradient of a parameter; a bias (1, N) may have a gradient (1, N)."""
        grad: Any = getattr(self.module, "grads", {}).get(name)
        same_shape = np.shape(grad) == np.shape(self.module.params[name])
        return np.reshape(grad, self.params[name].shape) if same_shape else grad


class LossLayer:
    """Adapt a cross entropy. As in the course, ``backward(x, y)`` is called on a new object."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}

    def forward(self, x: Array, targets: Array) -> Any:
        """Return the loss of probabilities under targets."""
        self.given = x, targets
        return _call(self.cls().forward, "forward changes x", x, targets)

    def backward(self) -> Any:
        """Return the gradient of the probabilities of the last call."""
        try:
            return _call(self.cls().backward, "backward changes x", *self.given)
        except AttributeError as error:
            error.args = (f"{error} (backward is called on a new object, without forward)",)
            raise


class TensorLayer:
    """Adapt a PyTorch module or Function of x, gamma and beta, with gradients from PyTorch.

    PyTorch calls the backward pass that the student wrote, if there is one.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], tensors: list[Tensor], params: dict[str, Array]
    ) -> None:
        self.function, self.tensors, self.params = function, tensors, params

    def forward(self, x: Array) -> Any:
        """Return the function's value, after setting gamma and beta in place."""
        for tensor, value in zip(self.tensors, self.params.values(), strict=True):
            tensor.data.copy_(torch.tensor(value).reshape(tensor.shape))
        self.x = torch.tensor(x, requires_grad=True)
        self.y = self.function(self.x)
        unchanged = np.array_equal(self.x.detach().numpy(), x)
        return self.y.detach().numpy() if unchanged else _changed("forward changes x")

    def backward(self, dout: Array) -> Any:
        """Return the gradient of x, and keep those of gamma and beta."""
        if not self.y.requires_grad:
            raise MisfitError("the output has no gradient: it is detached from its inputs")
        upstream = torch.tensor(dout, dtype=self.y.dtype)
        inputs = [self.x, *self.tensors]
        grads = torch.autograd.grad(self.y, inputs, upstream, allow_unused=True)
        dx, *others = (None if grad is None else grad.numpy() for grad in grads)
        # A gamma of shape (1, C) is right as well.
        vectors = [None if grad is None else grad.reshape(-1) for grad in others]
        self.grads = dict(zip(self.params, vectors, strict=True))
        unchanged = np.array_equal(upstream.numpy(), dout)
        return dx if unchanged else _changed("backward changes dout")


def torch_module(cls: Any, case: Case) -> TensorLayer:
    """Adapt a normalization module; gamma starts at 1 and beta at 0, whatever their names are."""
    n_neurons = case.x.shape[1]
    module = cls(n_neurons, case.layer.eps)
    own = dict(module.named_parameters()) if isinstance(module, nn.Module) else {}
    if [param.numel() for param in own.values()] != [n_neurons] * 2:
        raise MisfitError(
            "expected an nn.Module with two parameters of n_neurons numbers, gamma and beta, "
            "each an nn.Parameter; found " + (", ".join(own) or "none")
        )
    beta, gamma = sorted(own.values(), key=lambda param: float(param.detach().mean()))
    return TensorLayer(module.double(), [gamma, beta], case.params)


def torch_function(cls: Any, case: Case) -> TensorLayer:
    """Adapt a ``torch.autograd.Function`` of x, gamma, beta and eps."""
    tensors = [torch.tensor(value, requires_grad=True) for value in case.params.values()]
    return TensorLayer(lambda x: cls.apply(x, *tensors, case.layer.eps), tensors, case.params)
