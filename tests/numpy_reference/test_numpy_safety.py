"""Extreme numbers give finite results, and wrong input an error that names what came.

Warnings are errors here, so an overflow or a division by zero on the way fails a test as well.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifar_lab.numpy_reference.activations import ELU, LeakyReLU, ReLU, Softmax
from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.cross_entropy import CrossEntropy, SoftmaxCrossEntropy
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.layer_norm import LayerNorm
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.network import CNN, MLP
from cifar_lab.numpy_reference.optimizer import SGD, Adam
from cifar_lab.numpy_reference.pooling import AvgPool, Flatten, MaxPool
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@DTYPES
def test_softmax_of_huge_logits_is_finite(dtype):
    layer = Softmax()
    p = layer.forward(np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype))
    np.testing.assert_allclose(p, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    assert np.isfinite(layer.backward(np.ones_like(p))).all()


@DTYPES
def test_loss_of_huge_logits_is_their_distance(dtype):
    loss = SoftmaxCrossEntropy()
    logits = np.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    assert loss.forward(logits, np.array([0, 1])) == pytest.approx(1e4, rel=1e-6)
    np.testing.assert_allclose(loss.backward(), [[0, 0], [0.5, -0.5]], rtol=1e-6)


@DTYPES
def test_cross_entropy_of_probability_zero_and_one_is_finite(dtype):
    loss, p = CrossEntropy(), np.array([[0, 1], [0, 1]], dtype)
    tiny = float(np.finfo(dtype).tiny)
    value = loss.forward(p, np.array([[1, 0], [0, 1]], dtype))
    assert value == pytest.approx(-np.log(tiny) / 2, rel=1e-6)
    np.testing.assert_allclose(loss.backward(), [[-0.5 / tiny, 0], [0, -0.5]], rtol=1e-6)


@DTYPES
def test_no_gradient_passes_through_a_probability_of_zero(dtype):
    softmax, loss = Softmax(), CrossEntropy()
    p = softmax.forward(np.array([[1e4, -1e4]], dtype))
    loss.forward(p, np.array([[0, 1]], dtype))
    np.testing.assert_array_equal(softmax.backward(loss.backward()), [[0, 0]])


@DTYPES
@pytest.mark.parametrize("value", [0.1, -3e7])
def test_batch_norm_of_constant_channel_gives_beta(value, dtype):
    layer = BatchNorm(2, dtype=dtype)
    layer.params["beta"][:] = 0.5, -0.25
    x = np.full((1000, 2), value, dtype)
    np.testing.assert_array_equal(layer.forward(x), np.broadcast_to(layer.params["beta"], x.shape))
    dout = np.random.default_rng(0).normal(size=x.shape).astype(dtype)
    assert np.isfinite(layer.backward(dout)).all()


@DTYPES
def test_layer_norm_of_equal_features_gives_beta_and_no_gradient(dtype):
    layer, x = LayerNorm(3, dtype=dtype), np.full((2, 3), 0.1, dtype)
    layer.params["beta"][:] = 0.5, -0.25, 0
    np.testing.assert_array_equal(layer.forward(x), np.broadcast_to(layer.params["beta"], x.shape))
    dx = layer.backward(np.ones_like(x))
    np.testing.assert_array_equal(dx, 0)


@DTYPES
def test_elu_of_huge_numbers_is_finite(dtype):
    layer = ELU(0.5)
    np.testing.assert_array_equal(layer.forward(np.array([1e4, -1e4], dtype)), [1e4, -0.5])
    np.testing.assert_array_equal(layer.backward(np.ones(2, dtype)), [1, 0])


def test_batch_norm_keeps_its_digits_under_a_large_offset():
    x = np.random.default_rng(0).normal(size=(100, 3))
    offset = 2.0**30  # float64 keeps 22 bits after the point
    x = (x + offset) - offset
    y, shifted = BatchNorm(3).forward(x), BatchNorm(3).forward(x + offset)
    np.testing.assert_allclose(shifted, y, rtol=0, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 2), (1, 2, 1, 1)])
def test_batch_norm_of_one_value_gives_beta_no_gradient_and_no_running_variance(shape, dtype):
    layer = BatchNorm(2, dtype=dtype)
    x = np.full(shape, 3, dtype)
    np.testing.assert_array_equal(layer.forward(x), np.zeros(shape))
    dout = np.random.default_rng(0).normal(size=shape).astype(dtype)
    np.testing.assert_array_equal(layer.backward(dout), np.zeros(shape))
    np.testing.assert_array_equal(layer.grads["gamma"], [0, 0])
    np.testing.assert_array_equal(layer.running_var, [1, 1])
    np.testing.assert_allclose(layer.running_mean, [0.3, 0.3], rtol=1e-6)


# How to build a layer, a shape it takes, one that it refuses, and the one that it then asks for.
LAYERS = {
    "Linear": (lambda: Linear(3, 2), (4, 3), (4, 5), "(B, 3)"),
    "WeightNormLinear": (lambda: WeightNormLinear(3, 2), (4, 3), (4, 5), "(B, 3)"),
    "Softmax": (Softmax, (4, 3), (4,), "(B, C)"),
    "BatchNorm": (lambda: BatchNorm(3), (4, 3), (4, 3, 2), "(B, 3) or (B, 3, H, W)"),
    "LayerNorm": (lambda: LayerNorm(3), (4, 3), (4, 3, 2), "(B, 3)"),
    "Conv3x3": (lambda: Conv3x3(3, 2), (4, 3, 5, 5), (4, 2, 5, 5), "(B, 3, H, W)"),
    "MaxPool": (lambda: MaxPool(2, 2), (1, 1, 4, 4), (4, 4), "(B, C, H, W)"),
    "AvgPool": (lambda: AvgPool(2, 2), (1, 1, 4, 4), (4, 4), "(B, C, H, W)"),
    "Flatten": (Flatten, (2, 1, 2, 2), (4, 4), "(B, C, H, W)"),
}
ANY_SHAPE = {
    **{layer.__name__: (layer, (4, 3)) for layer in (ReLU, LeakyReLU, ELU)},
    "Dropout": (lambda: Dropout(0.5), (4, 3)),
}
EVERY_LAYER = pytest.mark.parametrize("name", [*LAYERS, *ANY_SHAPE])


def layer_and_input(name, dtype=np.float64):
    build, shape = (LAYERS | ANY_SHAPE)[name][:2]
    return build(), np.ones(shape, dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_wrong_input_shape_raises_with_both_shapes(name):
    build, _, wrong, expected = LAYERS[name]
    message = f"{name}: x has shape {wrong}; expected {expected}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build().forward(np.ones(wrong))


@EVERY_LAYER
def test_gradient_of_another_shape_or_dtype_than_the_output_raises_with_both(name):
    layer, x = layer_and_input(name)
    y = layer.forward(x)
    message = f"{name}: dout has shape (7, 7); expected {y.shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.backward(np.ones((7, 7)))
    with pytest.raises(ValueError, match=f"{name}: dout has dtype float32; expected float64"):
        layer.backward(np.ones(y.shape, np.float32))


@EVERY_LAYER
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float16])
def test_input_that_is_not_float32_or_float64_raises(name, dtype):
    layer, x = layer_and_input(name, dtype)
    with pytest.raises(ValueError, match=f"{np.dtype(dtype)}; expected float32 or float64"):
        layer.forward(x)


@pytest.mark.parametrize(
    "name", ["Linear", "WeightNormLinear", "BatchNorm", "LayerNorm", "Conv3x3"]
)
def test_input_of_another_dtype_than_the_weights_raises(name):
    layer, x = layer_and_input(name, np.float32)
    with pytest.raises(ValueError, match="float32; expected float64, as the other operands"):
        layer.forward(x)


@EVERY_LAYER
def test_backward_before_forward_raises(name):
    layer, x = layer_and_input(name)
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward(x)


def weight_norm_of_a_zero_direction():
    layer = WeightNormLinear(3, 2, rng=0)
    layer.params["v"][1] = 0
    layer.forward(np.ones((1, 3)))


def loss_of(targets, shape=(2, 3)):
    SoftmaxCrossEntropy().forward(np.zeros(shape), targets)


EMPTY = r"has shape \(\d, \d\); expected at least one"


@pytest.mark.parametrize(("error", "call", "message"), [
    (ValueError, weight_norm_of_a_zero_direction, r"v is zero for units \[1\]"),
    (TypeError, lambda: Linear(2, 2).forward([[1.0, 2.0]]), "x is a list; expected a NumPy array"),
    (ValueError, lambda: loss_of(np.array([0, 3])), "values from 0 to 3; expected 0 to 2"),
    (ValueError, lambda: loss_of(np.array([-1, 0])), "values from -1 to 0; expected 0 to 2"),
    (ValueError, lambda: loss_of(np.array([0.0, 1.0])), "dtype float64; expected integers"),
    (ValueError, lambda: loss_of(np.array([0])), r"shape \(1,\); expected \(2,\)"),
    (ValueError, lambda: loss_of(np.eye(3, dtype=int)[:2]), r"shape \(2, 3\); expected \(2,\)"),
    (TypeError, lambda: loss_of([0, 1]), "is a list; expected a NumPy array"),
    (ValueError, lambda: CrossEntropy().forward(np.ones((2, 3)), np.ones(2)),
     r"t has shape \(2,\); expected \(2, 3\)"),
    (ValueError, lambda: CrossEntropy().forward(np.ones((0, 3)), np.ones((0, 3))), EMPTY),
    (ValueError, lambda: loss_of(np.ones(0, int), shape=(0, 3)), EMPTY),
    (ValueError, lambda: loss_of(np.ones(3, int), shape=(3, 0)), EMPTY),
    (ValueError, lambda: BatchNorm(3).forward(np.ones((0, 3))), EMPTY),
    (ValueError, lambda: Softmax().forward(np.ones((3, 0))), EMPTY),
    (ValueError, lambda: MaxPool(3, 1).forward(np.ones((1, 1, 2, 2))),
     r"\(1, 1, 2, 2\); expected H and W of 3 up"),
    (ValueError, lambda: Dropout(0.5).forward(np.ones((2, 2)), np.ones(3, bool)),
     r"mask has shape \(3,\).*expected \(2, 2\)"),
    (ValueError, lambda: CNN(1).forward(np.ones((1, 3, 64, 64))),
     r"shape \(1, 32\); expected \(B, 8\)"),
    (RuntimeError, SGD(MLP(2, [], 2), lr=0.1).step, "call backward before step"),
])  # fmt: skip
def test_wrong_input_raises_with_what_came_and_what_was_expected(error, call, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("build", [
    lambda: Linear(0, 3),
    lambda: Linear(3, 3, std=-1.0),
    lambda: Linear(3, 3, dtype=np.float16),
    lambda: MLP(3, [0], 2),
    lambda: CNN(0),
    lambda: BatchNorm(0),
    lambda: BatchNorm(3, eps=0.0),
    lambda: BatchNorm(3, momentum=1.5),
    lambda: BatchNorm(3, dtype=np.int32),
    lambda: LayerNorm(0),
    lambda: LayerNorm(3, eps=0.0),
    lambda: LeakyReLU(-0.1),
    lambda: ELU(0.0),
    lambda: Dropout(1.0),
    lambda: MaxPool(3, 2, 2),
    lambda: AvgPool(0, 1),
    lambda: SGD([], lr=-1.0),
    lambda: SGD([], lr=float("nan")),
    lambda: SGD([], lr=0.1, momentum=1.0),
    lambda: Adam([], betas=(0.9, 1.0)),
    lambda: Adam([], eps=0.0),
])  # fmt: skip
def test_setting_out_of_range_raises(build):
    with pytest.raises(ValueError, match="expected"):
        build()


def test_reference_imports_neither_torch_nor_lightning():
    code = (
        "import pkgutil, importlib, sys, cifar_lab.numpy_reference as package\n"
        "for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "heavy = {'torch', 'pytorch_lightning', 'lightning'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
