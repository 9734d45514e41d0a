"""The course's names behave as its exercises and a student's own tests expect."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from cifar_lab import course
from cifar_lab.numpy_reference.cross_entropy import SoftmaxCrossEntropy

RNG = np.random.default_rng(0)


def slope(function, array, dout=1.0, step=1e-5):
    """Perturb `array` in place, as the course's own gradient check does."""
    result = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = np.sum(function() * dout)
        array[index] = value - step
        below = np.sum(function() * dout)
        array[index] = value
        result[index] = (above - below) / (2 * step)
    return result


def one_hot(n, c):
    return np.eye(c, dtype=int)[RNG.integers(0, c, n)]


def test_linear_module_has_the_course_dictionaries_and_initialisation():
    np.random.seed(42)
    layer = course.LinearModule(300, 200)
    assert {name: array.shape for name, array in layer.params.items()} == {
        "weight": (200, 300),
        "bias": (200,),
    }
    assert layer.params["weight"].std() == pytest.approx(1e-4, rel=0.02)
    assert not layer.params["bias"].any()
    assert layer.grads.keys() == layer.params.keys()


def test_linear_module_passes_a_check_that_perturbs_its_weight_in_place():
    layer, x, dout = course.LinearModule(4, 3), RNG.normal(size=(5, 4)), RNG.normal(size=(5, 3))
    layer.forward(x)
    dx, grads = layer.backward(dout), layer.grads

    def forward():
        return layer.forward(x)

    np.testing.assert_allclose(dx, slope(forward, x, dout), rtol=1e-6, atol=1e-9)
    for name, param in layer.params.items():
        np.testing.assert_allclose(grads[name], slope(forward, param, dout), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("module", [course.ReLUModule, course.SoftMaxModule])
def test_module_without_parameters_passes_the_course_check(module):
    layer, x, dout = module(), RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))
    layer.forward(x)
    dx = layer.backward(dout)
    np.testing.assert_allclose(dx, slope(lambda: layer.forward(x), x, dout), rtol=1e-5, atol=1e-9)
    assert not hasattr(layer, "params")


def test_cross_entropy_module_needs_no_forward_and_no_rows_of_sum_one():
    x, y = RNG.uniform(0.05, 1, (6, 4)), one_hot(6, 4)
    dx = course.CrossEntropyModule().backward(x, y)
    numerical = slope(lambda: course.CrossEntropyModule().forward(x, y), x)
    np.testing.assert_allclose(dx, numerical, rtol=1e-6, atol=1e-9)


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


def test_numpy_seed_governs_the_weights():
    weights = []
    for seed in (42, 42, 43):
        np.random.seed(seed)
        weights.append(course.LinearModule(3, 2).params["weight"])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).all()


def test_mlp_has_the_gradients_of_the_fused_loss_and_learns_as_the_course_trains_it():
    np.random.seed(42)
    network, loss = course.MLP(5, [8], 3), course.CrossEntropyModule()
    for layer in network.layers:
        if hasattr(layer, "params"):
            layer.params["weight"] *= 1e4
    x, y = RNG.normal(size=(30, 5)), one_hot(30, 3)
    losses = []
    for _ in range(100):
        p = network.forward(x)
        losses.append(loss.forward(p, y))
        network.backward(loss.backward(p, y))
        for layer in network.layers:
            if hasattr(layer, "params"):
                for name in layer.params:
                    layer.params[name] -= 0.5 * layer.grads[name]
    assert losses[-1] < 0.5 * losses[0]
    fused = SoftmaxCrossEntropy()
    logits = network.layers[-2].forward(network.layers[1].forward(network.layers[0].forward(x)))
    p = network.layers[-1].forward(logits)
    assert fused.forward(logits, y.argmax(axis=1)) == pytest.approx(loss.forward(p, y), rel=1e-12)
    np.testing.assert_allclose(
        network.layers[-1].backward(loss.backward(p, y)), fused.backward(), rtol=1e-9, atol=1e-14
    )


def test_linear_classifier_has_no_hidden_module():
    names = [type(layer).__name__ for layer in course.MLP(5, [], 3).layers]
    assert names == ["LinearModule", "SoftMaxModule"]


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
    layer.gamma.data.fill_(2.0)
    layer.beta.data.fill_(-1.0)
    expected = 2 * (x - x.mean(0)) / (x.var(0, correction=0) + 1e-3).sqrt() - 1
    for training in (True, False):
        y = layer.train(training)(x)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    assert dict(layer.named_parameters()).keys() == {"gamma", "beta"}


def test_both_batch_norm_modules_have_the_same_gradients():
    upstream = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = []
    for module in (course.CustomBatchNormAutograd, course.CustomBatchNormManualModule):
        layer, x = module(4).double(), batch()
        layer(x).backward(upstream)
        grads.append((x.grad, layer.gamma.grad, layer.beta.grad))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
