"""A student's objects as layers of a ``Case``: filled with numbers, called, and watched.

A NumPy module computes with ``params`` and ``grads``; a PyTorch module or Function is
differentiated by autograd, which calls the backward pass that it has.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cifar_lab.gradient_check.case import Case
from cifar_lab.numpy_reference.layer import Array


class MisfitError(Exception):
    """A student's class is not what the course asks for; the message says what is."""


class ArrayLayer:
    """A NumPy module. It is given copies, and ``written`` says which of them it changed."""

    def __init__(self, module: Any, case: Case) -> None:
        self.module, self.params = module, case.params
        self.grads: dict[str, Any] = {}
        self.written: set[str] = set()

    def forward(self, x: Array) -> Any:
        """Return the module's output, after filling its parameters."""
        for name, value in self.params.items():
            fill(getattr(self.module, "params", None), name, value)
        with self._watched("forward changes x", x) as given:
            return self.module.forward(given)

    def backward(self, dout: Array) -> Any:
        """Return the module's gradient of the input, and keep those of its parameters."""
        with self._watched("backward changes dout", dout) as given:
            dx = self.module.backward(given)
        self.grads = {name: self._gradient(name) for name in self.params}
        return _copied(dx)

    def _gradient(self, name: str) -> Any:
        """Return the gradient of a parameter; a bias (1, N) may have a gradient (1, N)."""
        found = _copied(getattr(self.module, "grads", {}).get(name))
        as_the_parameter = np.shape(found) == np.shape(self.module.params[name])
        return np.reshape(found, self.params[name].shape) if as_the_parameter else found

    @contextmanager
    def _watched(self, what: str, array: Array) -> Iterator[Array]:
        given = array.copy()
        yield given
        if not np.array_equal(given, array):
            self.written.add(what)


class LossLayer(ArrayLayer):
    """A cross entropy. ``backward(x, y)`` is called on a new object, as the course does."""

    def forward(self, x: Array, targets: Array) -> Any:  # type: ignore[override]
        """Return the loss of probabilities under targets."""
        self.given = x, targets
        with self._watched("forward changes x", x) as given:
            return type(self.module)().forward(given, targets.copy())

    def backward(self) -> Any:  # type: ignore[override]
        """Return the gradient of the probabilities of the last call."""
        x, targets = self.given
        with self._watched("backward changes x", x) as given:
            try:
                return _copied(type(self.module)().backward(given, targets.copy()))
            except AttributeError as error:
                error.args = (f"{error} (backward is called on a new object, without forward)",)
                raise


class TensorLayer:
    """A PyTorch module or Function, as a function of x and of gamma and beta."""

    def __init__(self, function: Callable[..., Tensor], case: Case) -> None:
        self.function, self.params = function, case.params
        self.grads: dict[str, Any] = {}
        self.written: set[str] = set()

    def forward(self, x: Array) -> Array:
        """Return the function's value."""
        inputs = {"x": x, **self.params}
        self.tensors = {name: torch.tensor(a, requires_grad=True) for name, a in inputs.items()}
        self.y = self.function(*self.tensors.values())
        if not np.array_equal(self.tensors["x"].detach().numpy(), x):
            self.written.add("forward changes x")
        return self.y.detach().numpy()

    def backward(self, dout: Array) -> Array | None:
        """Return the gradient of x, and keep those of gamma and beta; None where there is none."""
        if not self.y.requires_grad:
            raise MisfitError("the output has no gradient: it is detached from its inputs")
        upstream = torch.tensor(dout, dtype=self.y.dtype)
        grads = torch.autograd.grad(
            self.y, list(self.tensors.values()), upstream, retain_graph=True, allow_unused=True
        )
        if not np.array_equal(upstream.numpy(), dout):
            self.written.add("backward changes dout")
        found = [None if grad is None else grad.numpy() for grad in grads]
        self.grads = dict(zip(self.tensors, found, strict=True))
        return self.grads.pop("x")


def fill(params: Any, name: str, value: Array) -> None:
    """Write numbers into a parameter of a module, in place, as the course's tests do."""
    if not isinstance(params, dict) or not isinstance(params.get(name), np.ndarray):
        raise MisfitError(f'expected an array params["{name}"] after __init__')
    own = params[name]
    if own.squeeze().shape != value.squeeze().shape:
        raise MisfitError(f'params["{name}"] has the shape {own.shape}; expected {value.shape}')
    if not np.issubdtype(own.dtype, np.floating):
        params[name] = own = own.astype(np.float64)  # zeros of integers, for example
    own[...] = value.reshape(own.shape)


def _copied(found: Any) -> Any:
    """Return a copy, which the student's code cannot change later."""
    return found.copy() if isinstance(found, np.ndarray) else found
