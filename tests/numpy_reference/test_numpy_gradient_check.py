"""The check's own parts: what it measures, and that each of its two comparisons can fail alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.gradients import central_differences, check_gradients, relative_error
from cifar_lab.numpy_reference.activations import ReLU


def test_relative_error_is_the_distance_in_units_of_the_true_gradient():
    a, b = np.array([3.0, 4.4]), np.array([3.0, 4.0])
    assert relative_error(a, b) == pytest.approx(0.4 / 5, rel=1e-12)


def test_relative_error_is_measured_by_the_terms_only_where_the_gradient_nearly_cancels():
    a, b = np.array([2e-6]), np.array([1e-6])
    assert relative_error(a, b, terms=1.0) == pytest.approx(1e-6, rel=1e-12)
    assert relative_error(a, b, terms=1e-4) == pytest.approx(1.0, rel=1e-12)


def test_relative_error_against_zero_or_another_shape_is_infinite():
    zero = np.zeros(2)
    assert relative_error(zero, zero) == 0
    assert relative_error(np.array([0, 1e-30]), zero) == np.inf
    assert relative_error(np.ones((2, 1)), np.ones(2)) == np.inf


def test_central_differences_leave_input_and_parameters_as_they_were():
    case = cases.linear(np.random.default_rng(0))
    before = [case.x.copy(), *(param.copy() for param in case.params.values())]
    central_differences(case, np.ones((5, 4)))
    for array, copy in zip([case.x, *case.params.values()], before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_central_differences_catch_a_mistake_that_autograd_shares():
    class Unmasked(ReLU):
        def backward(self, dout):
            return dout * 1.0

    rng = np.random.default_rng(0)
    case = cases.relu(rng, layer_class=Unmasked)
    case = replace(case, reference=lambda x, _: x + (torch.relu(x) - x).detach())
    _, dx = check_gradients(case, rng)
    assert dx.autograd_error == 0
    assert dx.difference_error > 0.1
    assert not dx.passed


def test_gradient_of_another_dtype_does_not_pass():
    class Promoting(ReLU):
        def backward(self, dout):
            return super().backward(dout).astype(np.float64)

    rng = np.random.default_rng(0)
    output, dx = check_gradients(cases.relu(rng, layer_class=Promoting), rng, np.float32)
    assert output.passed
    assert not dx.passed


def test_gradient_that_is_not_there_does_not_pass():
    case = cases.linear(np.random.default_rng(0))
    case.layer.params["scale"] = np.ones(1)
    case = replace(case, reference=lambda x, p: x @ p["weight"].T + p["bias"] + 0 * p["scale"])
    missing = check_gradients(case, np.random.default_rng(0))[-1]
    assert (missing.name, missing.passed) == ("scale", False)
