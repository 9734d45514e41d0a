"""The numbers of several runs, and their tables."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cifar_lab.experiments import tables
from cifar_lab.experiments.tables import STUDENT


def test_mean_and_deviation() -> None:
    assert tables.mean_and_deviation([0.5, 0.51, 0.52]) == "51.00 ± 1.00"
    assert tables.mean_and_deviation([0.5742]) == "57.42"


def test_times() -> None:
    assert tables.mean_time([9.0, 10.0]) == "9.5 s"
    assert tables.mean_time([1000, 2000]) == "1,500 s"
    assert tables.time_range([20.0, 20.4]) == "20 s"
    assert tables.time_range([59.6, 130.0]) == "1–2 min"


def test_a_difference_and_its_interval_are_those_of_the_pairs() -> None:
    difference, interval = tables.paired([0.75, 0.8, 0.7], [0.7, 0.7, 0.7])
    assert difference == pytest.approx(0.05)
    assert interval == pytest.approx(4.303 * 0.05 / math.sqrt(3))


@pytest.mark.parametrize("freedom", range(1, len(STUDENT) + 1))
def test_the_quantiles_are_those_of_student(freedom: int) -> None:
    x = np.linspace(0, STUDENT[freedom - 1], 200_001)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    density = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    half = np.sum((density[1:] + density[:-1]) / 2 * np.diff(x))
    assert 0.5 + half == pytest.approx(0.975, abs=1e-4)


def test_a_table_is_markdown() -> None:
    expected = "|  | a, b |\n| --- | --- |\n| c | 1 |"
    assert tables.markdown_table([{"": "c", "a, b": "1"}]) == expected


def test_versions_that_differ_are_all_named() -> None:
    runs = [SimpleNamespace(summary={"versions": {"torch": v}}) for v in ("2.11", "2.14", "2.11")]
    assert tables.versions_of(runs) == {"torch": "2.11, 2.14"}  # type: ignore[arg-type]
