"""The classes of the course, of all its editions: how each is built, and checked on which cases."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.case import Case, Rng
from cifar_lab.gradient_check.student_adapters import (
    ArrayLayer,
    LossLayer,
    MisfitError,
    TensorLayer,
)
from cifar_lab.numpy_reference.activations import ELU, LeakyReLU

EPS = 0.1  # so large that a misplaced ε shows
ALPHA, SLOPE = 0.5, 0.2
Build = Callable[[Rng], Case]


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
