"""Figures of an evaluation: names, numbers, and nothing left behind in matplotlib."""

import itertools
import sys

import numpy as np
import pytest

from cifar_lab.dashboards.figures import (
    class_accuracy_figure,
    confusion_figure,
    mistakes_figure,
    rasterise,
)
from cifar_lab.dashboards.predictions import Mistakes

NAMES = ("bird", "cat", "frog")
MATRIX = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])  # the last class has no images


def test_rows_are_true_classes_in_percent_and_the_title_has_the_accuracy() -> None:
    axes = confusion_figure(MATRIX, NAMES).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[80, 20, 0], [25, 75, 0], [0, 0, 0]])
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(NAMES)
    assert axes.get_title() == "accuracy 78.57 % (11 of 14 images)"
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel().startswith("true class")


def test_cells_have_numbers_where_they_have_room_for_them() -> None:
    few, many = (confusion_figure(np.eye(n, dtype=int), list(map(str, range(n)))) for n in (3, 30))
    assert [text.get_text() for text in few.axes[0].texts].count("100") == 3
    assert not many.axes[0].texts


def test_long_names_of_classes_do_not_overlap() -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    figure = confusion_figure(np.eye(9, dtype=int), names)
    rasterise(figure)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def test_a_name_is_no_formula() -> None:
    names = ["$^$", "a$b$c_"]
    rasterise(confusion_figure(np.eye(2, dtype=int), names))
    rasterise(class_accuracy_figure(np.eye(2, dtype=int), names))
    rasterise(mistakes_figure(_mistakes(1), names))


def test_bars_are_the_accuracies_of_the_classes() -> None:
    axes = class_accuracy_figure(MATRIX, NAMES).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [80, 75, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    mean = axes.get_lines()[0]
    assert mean.get_xdata()[0] == pytest.approx(77.5)  # of the classes that have images


def _mistakes(count: int) -> Mistakes:
    classes = np.arange(count) % 3
    confidence = np.linspace(0.99, 0.5, count, dtype=np.float32)
    images = np.zeros((count, 3, 32, 32), np.uint8)
    return Mistakes(images, classes, (classes + 1) % 3, confidence)


def test_a_mistake_is_shown_with_both_classes_and_the_confidence() -> None:
    texts = mistakes_figure(_mistakes(5), NAMES).axes[0].texts
    assert len(texts) == 5
    assert texts[0].get_text() == "true: bird\npredicted: cat\nat 99.0 %"


@pytest.mark.parametrize("name", ["automobile", "a class with a very long name"])
def test_captions_of_neighbours_do_not_touch(name: str) -> None:
    figure = mistakes_figure(_mistakes(4), (name,) * 3)
    rasterise(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize("count", [0, 1, 16])
def test_any_number_of_mistakes_can_be_drawn_without_pyplot(count: int) -> None:
    pixels = rasterise(mistakes_figure(_mistakes(count), NAMES))
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.min() < 255  # there is something
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
