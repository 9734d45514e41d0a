"""The curve of several seeds: the line is their mean, the band from the lowest to the highest."""

import numpy as np
from matplotlib.figure import Figure

from cifar_lab.run.plot import plot_band


def test_the_line_is_the_mean_and_the_band_the_range() -> None:
    axes = Figure().subplots()
    values = np.array([[1.0, 5.0, 2.0], [3.0, 1.0, 2.0], [2.0, 3.0, 8.0]])
    plot_band(axes, [10, 20, 40], values, "#000000", label="three seeds", linestyle=":")
    (line,) = axes.lines
    assert np.array_equal(line.get_xydata(), [[10, 2], [20, 3], [40, 4]])
    assert (line.get_label(), line.get_linestyle()) == ("three seeds", ":")
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert corners == {(10, 1), (10, 3), (20, 1), (20, 5), (40, 2), (40, 8)}


def test_the_range_of_a_single_point_is_a_bar() -> None:
    axes = Figure().subplots()
    plot_band(axes, [10], np.array([[1.0], [4.0]]), "#000000", marker="o")
    (bar,) = axes.collections
    assert np.array_equal(bar.get_segments(), [[[10, 1], [10, 4]]])
