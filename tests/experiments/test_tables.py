"""The numbers of several runs, and their tables."""

import math
import random
from types import SimpleNamespace

import pytest

from cifar_lab.experiments import tables


def test_mean_and_deviation() -> None:
    assert tables.mean_and_deviation([0.5, 0.51, 0.52]) == "51.00 ± 1.00"
    assert tables.mean_and_deviation([0.5742]) == "57.42"


def test_one_more_value_falls_into_the_interval_of_student() -> None:
    low, high = tables.prediction_interval([0.7, 0.75, 0.8]) or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.75)
    assert high - 0.75 == pytest.approx(4.30265 * 0.05 * math.sqrt(4 / 3), rel=1e-5)
    assert tables.prediction_interval([0.7]) is None
    rng, inside = random.Random(0), 0
    for _ in range(2000):
        *known, further = (rng.gauss(0.5, 0.1) for _ in range(5))
        low, high = tables.prediction_interval(known) or (0, 0)
        inside += low <= further <= high
    assert inside == pytest.approx(0.95 * 2000, abs=40)


def test_the_last_quarter_of_a_curve() -> None:
    assert tables.last_quarter([100, 200, 300, 400], [0.1, 0.9, 0.3, 0.4]) == 0.4
    assert tables.last_quarter([10, 20, 35, 40], [0.1, 0.9, 0.3, 0.4]) == pytest.approx(0.35)


def test_seeds() -> None:
    assert tables.seed_range([0, 1, 2, 3]) == "0–3"
    assert tables.seed_range([0, 1]) == "0, 1"
    assert tables.seed_range([0, 2, 3]) == "0, 2, 3"


def test_times() -> None:
    assert tables.mean_time([9.0, 10.0]) == "9.5 s"
    assert tables.mean_time([1000, 2000]) == "1,500 s"
    assert tables.time_range([20.0, 20.4]) == "20 s"
    assert tables.time_range([59.6, 130.0]) == "1–2 min"


def test_a_difference_and_its_interval_are_those_of_the_pairs() -> None:
    difference, interval = tables.paired([0.75, 0.8, 0.7], [0.7, 0.7, 0.7])
    assert difference == pytest.approx(0.05)
    assert interval == pytest.approx(4.30265 * 0.05 / math.sqrt(3), rel=1e-6)


def test_a_table_is_markdown() -> None:
    expected = "|  | a, b |\n| --- | --- |\n| c | 1 |"
    assert tables.markdown_table([{"": "c", "a, b": "1"}]) == expected


def test_versions_that_differ_are_all_named() -> None:
    runs = [SimpleNamespace(summary={"versions": {"torch": v}}) for v in ("2.11", "2.14", "2.11")]
    assert tables.versions_of(runs) == {"torch": "2.11, 2.14"}  # type: ignore[arg-type]
