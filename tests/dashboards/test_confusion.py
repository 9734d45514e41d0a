"""The confusion matrix as a figure: shares of rows, names, and what it refuses."""

import numpy as np
import pytest

from cifar_lab.dashboards.confusion import confusion_figure
from cifar_lab.dashboards.figures import rasterise

NAMES = ("bird", "cat", "frog")
MATRIX = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])


def test_rows_are_true_classes_in_percent_and_the_title_has_the_accuracy() -> None:
    axes = confusion_figure(MATRIX, NAMES).axes[0]
    expected = [[80, 20, 0], [25, 75, 0], [0, 0, 0]]  # a class without images is a row of zeros
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
    assert axes.get_title() == "accuracy 78.57 % (11 of 14 images)"
    assert (axes.get_xlabel(), axes.get_ylabel().split(" (")[0]) == (
        "predicted class",
        "true class",
    )


def test_cells_have_numbers_where_they_have_room_for_them() -> None:
    few, many = (
        confusion_figure(np.eye(n, dtype=int), [f"{i}" for i in range(n)]) for n in (3, 30)
    )
    assert [text.get_text() for text in few.axes[0].texts].count("100") == 3
    assert not many.axes[0].texts


def test_long_names_of_classes_do_not_overlap() -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    figure = confusion_figure(np.eye(9, dtype=int), names)
    rasterise(figure)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def test_a_name_is_no_formula() -> None:
    rasterise(confusion_figure(np.eye(2, dtype=int), ["$^$", "a$b$c_"]))


def test_a_matrix_that_does_not_fit_the_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matrix of shape \(3, 3\): expected \(2, 2\)"):
        confusion_figure(MATRIX, NAMES[:2])
