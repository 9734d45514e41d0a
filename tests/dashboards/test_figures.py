"""Figures of an evaluation: names, numbers, and nothing left behind in matplotlib."""

import sys

import numpy as np
import pytest

from cifar_lab.dashboards.figures import class_accuracy_figure, mistakes_figure, rasterise
from cifar_lab.dashboards.predictions import Mistakes

NAMES = ("bird", "cat", "frog")


def _mistakes(count: int) -> Mistakes:
    classes = np.arange(count) % 3
    confidence = np.linspace(0.99, 0.5, count, dtype=np.float32)
    images = np.zeros((count, 3, 32, 32), np.uint8)
    return Mistakes(images, classes, (classes + 1) % 3, confidence)


def test_bars_are_the_accuracies_of_the_classes() -> None:
    matrix = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    axes = class_accuracy_figure(matrix, NAMES).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [80, 75, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    mean = axes.get_lines()[0]
    assert mean.get_xdata()[0] == pytest.approx(77.5)  # of the classes that have images


def test_a_mistake_is_shown_with_both_classes_and_the_confidence() -> None:
    texts = mistakes_figure(_mistakes(5), NAMES).axes[0].texts
    assert len(texts) == 5
    assert texts[0].get_text() == "true: bird\npredicted: cat\nat 99.0 %"


@pytest.mark.parametrize("count", [0, 1, 16])
def test_any_number_of_mistakes_can_be_drawn(count: int) -> None:
    pixels = rasterise(mistakes_figure(_mistakes(count), NAMES))
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.min() < 255  # there is something


def test_no_state_of_pyplot_is_made() -> None:
    rasterise(class_accuracy_figure(np.eye(3, dtype=int), NAMES))
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
