"""The course's names behave as its exercises and a student's own tests expect."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from cifar_lab import course
from cifar_lab.course import mlp_pytorch
from cifar_lab.gradient_check.case import Case
from cifar_lab.gradient_check.gradients import central_differences
from cifar_lab.numpy_reference.cross_entropy import SoftmaxCrossEntropy

RNG = np.random.default_rng(0)


def one_hot(n, c):
    return np.eye(c, dtype=int)[RNG.integers(0, c, n)]


def test_linear_module_has_the_course_dictionaries_and_initialisation():
    np.random.seed(42)
    layer = course.LinearModule(300, 200)
    shapes = {name: array.shape for name, array in layer.params.items()}
    assert shapes == {"weight": (200, 300), "bias": (200,)}
    assert layer.params["weight"].std() == pytest.approx(1e-4, rel=0.02)
    assert not layer.params["bias"].any()
    assert layer.grads.keys() == layer.params.keys()
    for seed, same in ((42, True), (43, False)):  # NumPy's seed governs the weights
        np.random.seed(seed)
        again = course.LinearModule(300, 200).params["weight"]
        assert (again == layer.params["weight"]).mean() == same


@pytest.mark.parametrize(
    ("input_layer", "std"), [(None, 1e-4), (False, (2 / 300) ** 0.5), (True, (1 / 300) ** 0.5)]
)
def test_weights_start_as_in_the_edition_that_the_argument_belongs_to(input_layer, std):
    np.random.seed(0)
    layer = course.LinearModule(300, 200, input_layer=input_layer)
    assert layer.params["weight"].std() == pytest.approx(std, rel=0.02)
    assert not layer.params["bias"].any()


ACTIVATIONS = {
    "relu": course.ReLUModule,
    "leaky": partial(course.LeakyReLUModule, 0.2),
    "elu of 2020": course.ELUModule,
    "elu": partial(course.ELUModule, alpha=0.5),
    "softmax": course.SoftMaxModule,
}


def entrywise_error(a, b):
    """The measure of the course's tests: |a − b| relative to |a| + |b|, the largest of all."""
    return np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)))


def checks_of_the_course(layer, x, limit=1e-5):
    """Compare as the course's tests do, which perturb ``x`` and ``params`` in place."""
    dout = RNG.normal(size=layer.forward(x).shape)
    case = Case(layer, x, reference=None)
    slopes = central_differences(case, dout)
    layer.forward(x)
    for name, gradient in case.backward(dout).items():
        assert entrywise_error(gradient, slopes[name]) <= limit, name


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (20, 10)])
def test_activation_passes_the_checks_of_the_course(name, shape):
    layer = ACTIVATIONS[name]()
    assert not hasattr(layer, "params")
    assert not hasattr(layer, "grads")
    checks_of_the_course(layer, RNG.normal(size=shape), 1e-6 if "elu" in name else 1e-5)


@pytest.mark.parametrize("input_layer", [None, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (10, 1, 8), (3, 20, 10)])
def test_linear_module_passes_the_checks_of_the_course(sizes, input_layer):
    n_samples, n_inputs, n_outputs = sizes
    layer = course.LinearModule(n_inputs, n_outputs, input_layer)
    layer.params["weight"][:] = RNG.normal(size=(n_outputs, n_inputs))
    checks_of_the_course(layer, RNG.normal(size=(n_samples, n_inputs)))


@pytest.mark.parametrize("as_integers", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (12, 7)])
def test_cross_entropy_passes_the_checks_of_the_course(shape, as_integers):
    x, y = RNG.uniform(0.05, 1, shape), one_hot(*shape)
    x /= x.sum(axis=1, keepdims=True)
    targets = y.argmax(axis=1) if as_integers else y
    dx = course.CrossEntropyModule().backward(x, targets)  # without a forward pass before
    case = Case(course.CrossEntropyModule(), x, reference=None, args=(targets,))
    slopes = central_differences(case, np.ones(()))["x"]
    assert entrywise_error(dx, slopes) <= 1e-5


def test_integer_labels_are_the_same_targets_as_one_hot_rows():
    x, y = RNG.uniform(0.05, 1, (6, 4)), one_hot(6, 4)
    loss, labels = course.CrossEntropyModule(), y.argmax(axis=1)
    assert loss.forward(x, labels) == loss.forward(x, y)
    np.testing.assert_array_equal(loss.backward(x, list(labels)), loss.backward(x, y))
    with pytest.raises(ValueError, match="labels from 0 to 4; expected 0 to 3"):
        loss.forward(x, [0, 1, 2, 3, 4, 0])


def test_cleared_cache_is_gone_and_a_new_forward_pass_fills_it():
    network = course.MLP(4, [3], 2, activation=course.ELUModule, kaiming=True)
    x = RNG.normal(size=(5, 4))
    dout = network.forward(x) + 1
    dx = network.backward(dout)
    network.clear_cache()
    course.CrossEntropyModule().clear_cache()
    for layer in network.layers:
        with pytest.raises(RuntimeError, match="before forward"):
            layer.backward(dout)
    network.forward(x)
    np.testing.assert_array_equal(network.backward(dout), dx)


def test_numpy_mlp_of_the_later_editions_has_their_activation_and_initialisation():
    np.random.seed(0)
    elu = partial(course.ELUModule, 0.5)
    layers = course.MLP(100, [200, 300], 10, activation=elu, kaiming=True).layers
    names = [type(layer).__name__ for layer in layers]
    assert names == ["LinearModule", "ELUModule"] * 2 + ["LinearModule", "SoftMaxModule"]
    found = [layer.params["weight"].std() ** 2 for layer in layers[::2]]
    assert found == pytest.approx([1 / 100, 2 / 200, 2 / 300], rel=0.06)


@pytest.mark.parametrize("use_batch_norm", [False, True])
def test_pytorch_mlp_returns_logits_and_normalises_hidden_layers_if_told(use_batch_norm):
    network = mlp_pytorch.MLP(12, [5, 4], 3, use_batch_norm, activation=torch.nn.ELU)
    assert network(torch.ones(2, 3, 4)).shape == (2, 3)
    assert network.device == torch.device("cpu")
    hidden = ["Linear", *["BatchNorm1d"] * use_batch_norm, "ELU"]
    assert [type(layer).__name__ for layer in network.layers] == [*hidden, *hidden, "Linear"]
    classifier = mlp_pytorch.MLP(3, [], 2)
    assert [type(layer).__name__ for layer in classifier.layers] == ["Linear"]


def test_cross_entropy_module_is_the_mean_over_the_batch():
    loss = course.CrossEntropyModule().forward([[0.25, 0.75], [0.5, 0.5]], [[1, 0], [0, 1]])
    assert loss == pytest.approx((np.log(4) + np.log(2)) / 2, rel=1e-12)


def test_modules_compute_in_float64_whatever_they_are_given():
    layer, x = course.LinearModule(4, 3), np.ones((2, 4), np.float32)
    layer.params["weight"] = layer.params["weight"].astype(np.float32)
    assert layer.forward(x).dtype == np.float64
    assert layer.backward(np.ones((2, 3), np.float32)).dtype == np.float64
    layer.params["weight"] += 1  # still read anew, though it is no float64 array
    np.testing.assert_allclose(layer.forward(np.ones((2, 4), np.uint8)), 4, rtol=1e-3)


def test_mlp_has_the_gradients_of_the_fused_loss_and_learns_as_the_course_trains_it():
    np.random.seed(42)
    network, loss = course.MLP(5, [8], 3), course.CrossEntropyModule()
    classifier = course.MLP(5, [], 3).layers  # without a hidden module
    assert list(map(type, classifier)) == [course.LinearModule, course.SoftMaxModule]
    linear = [layer for layer in network.layers if hasattr(layer, "params")]
    for layer in linear:
        layer.params["weight"] *= 1e4
    x, y = RNG.normal(size=(30, 5)), one_hot(30, 3)
    losses = []
    for _ in range(100):
        p = network.forward(x)
        losses.append(loss.forward(p, y))
        network.backward(loss.backward(p, y))
        for layer in linear:
            for name in layer.params:
                layer.params[name] -= 0.5 * layer.grads[name]
    assert losses[-1] < 0.5 * losses[0]
    fused, logits, softmax = SoftmaxCrossEntropy(), x, network.layers[-1]
    for layer in network.layers[:-1]:
        logits = layer.forward(logits)
    p = softmax.forward(logits)
    assert fused.forward(logits, y.argmax(axis=1)) == pytest.approx(loss.forward(p, y), rel=1e-12)
    dx = softmax.backward(loss.backward(p, y))
    np.testing.assert_allclose(dx, fused.backward(), rtol=1e-9, atol=1e-14)


def test_wrong_shapes_raise_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 5\); expected \(B, 4\)"):
        course.LinearModule(4, 3).forward(np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"t has shape \(2,\); expected \(2, 3\)"):
        course.CrossEntropyModule().forward(np.ones((2, 3)), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"\(2, 5\); expected \(B, 4\)"):
        course.CustomBatchNormManualModule(4)(torch.ones(2, 5))


def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 4, generator=generator, dtype=torch.float64) * 3 + 2
    return x.requires_grad_()


@pytest.mark.parametrize("kind", ["Batch", "Layer"])
def test_manual_function_passes_gradcheck_by_class_and_by_instance(kind):
    function = getattr(course, f"Custom{kind}NormManualFunction")
    gamma = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    beta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(function.apply, (batch(), gamma, beta))
    assert gradcheck(function(4).apply, (batch(), gamma, beta, 1e-3))
    assert gradgradcheck(function.apply, (batch(), gamma, beta))


@pytest.mark.parametrize("form", ["Autograd", "ManualModule"])
@pytest.mark.parametrize(("kind", "axis"), [("Batch", 0), ("Layer", 1)])
def test_normalization_is_the_same_in_training_and_in_evaluation(kind, axis, form):
    layer, x = getattr(course, f"Custom{kind}Norm{form}")(4, eps=1e-3).double(), batch()
    layer.gamma.data = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    layer.beta.data.fill_(-1.0)
    inputs, upstream = (x, layer.gamma, layer.beta), batch().detach().flip(0)
    std = (x.var(axis, correction=0, keepdim=True) + 1e-3).sqrt()
    expected = layer.gamma * (x - x.mean(axis, keepdim=True)) / std + layer.beta
    gradients = torch.autograd.grad(expected, inputs, upstream)
    for training in (True, False):
        y = layer.train(training)(x)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
        found = torch.autograd.grad(y, inputs, upstream)
        torch.testing.assert_close(found, gradients, rtol=1e-10, atol=1e-12)
    assert dict(layer.named_parameters()).keys() == {"gamma", "beta"}
