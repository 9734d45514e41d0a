"""A student's classes as layers of the check: how each is built, filled with numbers and called.

The class names are those of the course, of all its editions. A NumPy module computes with
``params`` and ``grads``; a PyTorch module or Function is differentiated by autograd, which calls
the backward pass that it has.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.case import Case, Rng
from cifar_lab.numpy_reference.activations import ELU, LeakyReLU
from cifar_lab.numpy_reference.layer import Array

EPS = 0.1  # so large that a misplaced ε shows
ALPHA, SLOPE = 0.5, 0.2
Build = Callable[[Rng], Case]


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


def takes(cls: Any, *args: Any) -> bool:
    """Return whether the constructor of a class can be called with these arguments."""
    try:
        inspect.signature(cls).bind(*args)
    except TypeError:
        return False
    return True


def _numpy_module(cls: Any, case: Case) -> ArrayLayer:
    layer = case.layer
    if "weight" in case.params:
        return ArrayLayer(cls(*reversed(case.params["weight"].shape)), case)
    if isinstance(layer, LeakyReLU):
        return ArrayLayer(cls(layer.negative_slope), case)
    if isinstance(layer, ELU) and takes(cls, layer.alpha):
        return ArrayLayer(cls(layer.alpha), case)
    return ArrayLayer(cls(), case)


def _torch_function(cls: Any, case: Case) -> TensorLayer:
    return TensorLayer(lambda x, gamma, beta: cls.apply(x, gamma, beta, case.layer.eps), case)


def _torch_module(cls: Any, case: Case) -> TensorLayer:
    module = cls(len(case.params["gamma"]), case.layer.eps)
    if not isinstance(module, nn.Module):
        raise MisfitError("expected a subclass of torch.nn.Module")
    own = dict(module.named_parameters())
    names = {key: _name_of(own, key, start) for key, start in (("gamma", 1.0), ("beta", 0.0))}
    if not all(names.values()):
        raise MisfitError(
            "expected parameters gamma and beta, each an nn.Parameter; found "
            + (", ".join(own) or "none")
        )
    shapes = [own[name].shape for name in names.values()]

    def function(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        values = [value.reshape(s) for value, s in zip((gamma, beta), shapes, strict=True)]
        return torch.func.functional_call(
            module, dict(zip(names.values(), values, strict=True)), (x,)
        )

    return TensorLayer(function, case)


def _name_of(own: dict[str, nn.Parameter], key: str, start: float) -> str:
    """Return the name of gamma or beta, which may be told by where it starts; "" for none."""
    starts = [name for name, param in own.items() if bool((param == start).all())]
    return key if key in own else next(iter(starts), "")


@dataclass(frozen=True)
class Kind:
    """What is done with a class of the course.

    Attributes:
        layer: name of the layer in the catalogue of mistakes.
        adapt: function of the class and a case that makes a layer of the class.
        builds: functions that build the cases, of the class; usual and edge sizes.
    """

    layer: str
    adapt: Callable[[Any, Case], Any]
    builds: Callable[[Any], list[Build]]


def _shapes(build: Callable[..., Case], *shapes: tuple[Any, ...]) -> Callable[[Any], list[Build]]:
    """Return the builders of a layer for several arguments, whatever the class."""
    return lambda cls: [partial(_build, build, shape) for shape in shapes]


def _build(build: Callable[..., Case], args: tuple[Any, ...], rng: Rng) -> Case:
    return build(rng, *args)


def _elu_builds(cls: Any) -> list[Build]:
    alpha = ALPHA if takes(cls, ALPHA) else 1.0  # the edition of 2020 has no argument
    return _shapes(cases.elu, *[(shape, alpha) for shape in ROWS])(cls)


def _cross_entropy(b: int, c: int, has_last: bool, rng: Rng) -> Case:
    """Build a cross entropy with or without the last class; without, labels may be too large."""
    while (case := cases.cross_entropy(rng, b, c)).args[0][:, -1].any() != has_last:
        pass
    return case


def _huge_softmax(rng: Rng) -> Case:
    case = cases.softmax(rng, 3, 5)
    case.x[:] = np.round(64 * case.x) / 64 + 1e3  # float32 has room for these numbers
    return case


def _softmax_builds(cls: Any) -> list[Build]:
    sizes = ((6, 4), (4, 4), (1, 3), (3, 1))
    return [*_shapes(cases.softmax, *sizes)(cls), _huge_softmax]


ROWS = ((6, 5), (4, 4), (1, 4), (3, 1))
BATCH_NORM = Kind("batch_norm", _torch_module, _shapes(
    cases.batch_norm, ((7, 3), EPS), ((4, 4), EPS), ((5, 1), EPS), ((1, 3), EPS)
))  # fmt: skip
LAYER_NORM = Kind("layer_norm", _torch_module, _shapes(
    cases.layer_norm, ((7, 3), EPS), ((4, 4), EPS), ((1, 5), EPS), ((3, 1), EPS)
))  # fmt: skip

KINDS: dict[str, Kind] = {
    "LinearModule": Kind(
        "linear",
        _numpy_module,
        _shapes(cases.linear, (7, 5, 3), (6, 4, 4), (3, 2, 3), (1, 3, 2), (3, 1, 1)),
    ),
    "ReLUModule": Kind("relu", _numpy_module, _shapes(cases.relu, *[(s,) for s in ROWS])),
    "LeakyReLUModule": Kind(
        "leaky_relu", _numpy_module, _shapes(cases.leaky_relu, *[(s, SLOPE) for s in ROWS])
    ),
    "ELUModule": Kind("elu", _numpy_module, _elu_builds),
    "SoftMaxModule": Kind("softmax", _numpy_module, _softmax_builds),
    "CrossEntropyModule": Kind(
        "cross_entropy",
        lambda cls, case: LossLayer(cls(), case),
        lambda cls: [
            partial(_cross_entropy, 6, 4, False),
            partial(_cross_entropy, 5, 5, True),
            partial(_cross_entropy, 1, 3, False),
        ],
    ),
    "CustomBatchNormAutograd": BATCH_NORM,
    "CustomBatchNormManualFunction": Kind("batch_norm", _torch_function, BATCH_NORM.builds),
    "CustomBatchNormManualModule": BATCH_NORM,
    "CustomLayerNormAutograd": LAYER_NORM,
    "CustomLayerNormManualFunction": Kind("layer_norm", _torch_function, LAYER_NORM.builds),
    "CustomLayerNormManualModule": LAYER_NORM,
}
"""What is checked, by the name of the class."""
