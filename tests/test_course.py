"""The course's names behave as its exercises and a student's own tests expect."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from cifar_lab import course
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


@pytest.mark.parametrize("name", ["LinearModule", "ReLUModule", "SoftMaxModule"])
def test_module_passes_a_check_that_perturbs_its_arrays_in_place(name):
    sizes = (4, 3) if name == "LinearModule" else ()
    layer, x = getattr(course, name)(*sizes), RNG.normal(size=(5, 4))
    dout = RNG.normal(size=layer.forward(x).shape)
    assert hasattr(layer, "params") == hasattr(layer, "grads") == (name == "LinearModule")
    case = Case(layer, x, reference=None)
    gradients = case.backward(dout)
    for name, numerical in central_differences(case, dout).items():
        np.testing.assert_allclose(gradients[name], numerical, rtol=1e-6, atol=1e-9)


def test_cross_entropy_module_needs_no_forward_and_no_rows_of_sum_one():
    x, y = RNG.uniform(0.05, 1, (6, 4)), one_hot(6, 4)
    dx = course.CrossEntropyModule().backward(x, y)
    case = Case(course.CrossEntropyModule(), x, reference=None, args=(y,))
    numerical = central_differences(case, np.ones(()))
    np.testing.assert_allclose(dx, numerical["x"], rtol=1e-6, atol=1e-9)


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
        course.CrossEntropyModule().forward(np.ones((2, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"\(2, 5\); expected \(B, 4\)"):
        course.CustomBatchNormManualModule(4)(torch.ones(2, 5))


def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 4, generator=generator, dtype=torch.float64) * 3 + 2
    return x.requires_grad_()


def test_manual_function_passes_gradcheck_by_class_and_by_instance():
    gamma = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    beta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(course.CustomBatchNormManualFunction.apply, (batch(), gamma, beta))
    instance = course.CustomBatchNormManualFunction(4)
    assert gradcheck(instance.apply, (batch(), gamma, beta, 1e-3))


@pytest.mark.parametrize(
    "module", [course.CustomBatchNormAutograd, course.CustomBatchNormManualModule]
)
def test_batch_norm_module_normalises_by_the_batch_also_in_evaluation(module):
    layer, x = module(4, eps=1e-3).double(), batch()
    layer.gamma.data = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    layer.beta.data.fill_(-1.0)
    inputs, upstream = (x, layer.gamma, layer.beta), batch().detach().flip(0)
    scale = layer.gamma / (x.var(0, correction=0) + 1e-3).sqrt()
    expected = scale * (x - x.mean(0)) + layer.beta
    gradients = torch.autograd.grad(expected, inputs, upstream)
    for training in (True, False):
        y = layer.train(training)(x)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
        found = torch.autograd.grad(y, inputs, upstream)
        torch.testing.assert_close(found, gradients, rtol=1e-10, atol=1e-12)
    assert dict(layer.named_parameters()).keys() == {"gamma", "beta"}
