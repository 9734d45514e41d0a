"""Every layer's output and gradients against autograd (1e-10) and central differences (1e-6)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_lab.gradient_check import cases
from cifar_lab.gradient_check.gradients import check_gradients

RNG_SEEDS = st.integers(0, 2**32 - 1)
SIZE = st.integers(1, 4)
ROWS = st.tuples(SIZE, SIZE)
IMAGES = st.tuples(SIZE, SIZE, SIZE, SIZE)
WINDOWS = st.sampled_from([(1, 1, 0), (1, 2, 0), (2, 1, 1), (2, 2, 1), (3, 2, 1), (3, 1, 1)])

SIZES = {
    cases.linear: st.tuples(SIZE, SIZE, SIZE),
    cases.relu: st.tuples(st.one_of(ROWS, IMAGES)),
    cases.leaky_relu: st.tuples(st.one_of(ROWS, IMAGES), st.floats(0, 2)),
    cases.elu: st.tuples(st.one_of(ROWS, IMAGES), st.floats(0.125, 4)),
    cases.softmax: ROWS,
    cases.cross_entropy: ROWS,
    cases.softmax_cross_entropy: ROWS,
    cases.batch_norm: st.tuples(st.one_of(ROWS, IMAGES)),
    cases.batch_norm_eval: st.tuples(st.one_of(ROWS, IMAGES)),
    cases.layer_norm: st.tuples(ROWS),
    cases.dropout: st.tuples(st.one_of(ROWS, IMAGES)),
    cases.weight_norm: st.tuples(SIZE, SIZE, SIZE),
    cases.conv: st.tuples(IMAGES, SIZE),
    cases.max_pool: st.tuples(IMAGES, WINDOWS),
    cases.avg_pool: st.tuples(IMAGES, WINDOWS),
    cases.flatten: st.tuples(IMAGES),
}
EDGES = {
    (1, 1, 1): [cases.linear, cases.weight_norm],
    (1, 1): [cases.softmax, cases.cross_entropy, cases.softmax_cross_entropy],
    ((1, 1),): [
        cases.relu,
        cases.leaky_relu,
        cases.elu,
        cases.layer_norm,
        cases.batch_norm_eval,
        cases.dropout,
    ],
    ((1, 3),): [cases.batch_norm, cases.layer_norm],
    ((2, 1),): [cases.batch_norm, cases.layer_norm],
    ((1, 1, 1, 1),): [cases.batch_norm, cases.flatten],
    ((1, 1, 1, 2),): [cases.batch_norm],
    ((1, 1, 1, 1), 1): [cases.conv],
    ((1, 1, 1, 1), (3, 2, 1)): [cases.max_pool],
    ((1, 1, 1, 1), (1, 1, 0)): [cases.avg_pool],
}


def failures(case, rng, dtype=np.float64):
    return [row for row in check_gradients(case, rng, dtype) if not row.passed]


@pytest.mark.parametrize("name", cases.CASES)  # in float64 see test_check_gradients.py
def test_layer_agrees_with_autograd_and_central_differences_in_float32(name):
    rng = np.random.default_rng(0)
    assert not failures(cases.CASES[name](rng), rng, np.float32)


@pytest.mark.parametrize("build", SIZES, ids=lambda build: build.__name__)
@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(data=st.data(), seed=RNG_SEEDS)
def test_layer_agrees_for_random_shapes(build, data, seed):
    rng = np.random.default_rng(seed)
    assert not failures(build(rng, *data.draw(SIZES[build])), rng)


@pytest.mark.parametrize(
    ("build", "sizes"),
    [(build, sizes) for sizes, builders in EDGES.items() for build in builders],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_layer_agrees_at_edge_sizes(build, sizes):
    rng = np.random.default_rng(0)
    assert not failures(build(rng, *sizes), rng)


def test_gradient_of_one_class_is_exactly_zero():
    rng = np.random.default_rng(0)
    for case in (cases.softmax(rng, 3, 1), cases.softmax_cross_entropy(rng, 3, 1)):
        y = case.forward(case.x)
        np.testing.assert_array_equal(case.backward(rng.normal(size=y.shape))["x"], 0.0)


def test_gradient_of_batch_norm_of_two_samples_is_measured_by_its_terms():
    rng = np.random.default_rng(0)
    case = cases.batch_norm(rng, (2, 3))
    dout = rng.normal(size=(2, 3))
    case.forward(case.x)
    size = np.linalg.norm(case.backward(dout)["x"])
    assert 0 < size < 1e-3 * np.linalg.norm(case.terms(case.x, case.params, dout)["x"])
