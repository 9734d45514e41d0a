"""Grids of small images: the right pixels in the right places."""

import numpy as np
import pytest
import torch

from cifar_lab.dashboards.drawing import GAP, TILE, tiles, weight_images
from cifar_lab.models import CNN, MLP, DeepMLP, NumpyMLP


def test_a_batch_is_laid_out_row_by_row_with_its_own_pixels() -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    grid = tiles(images)
    side = TILE + GAP
    assert grid.shape == (2 * side + GAP, 3 * side + GAP, 3)
    top, left = side + GAP, GAP
    fourth = grid[top : top + TILE : 2, left : left + TILE : 2]  # every pixel is enlarged twice
    assert np.array_equal(fourth, images[3].permute(1, 2, 0))
    assert (grid[top:, left + 2 * side :] == 255).all()  # there is no sixth


def test_zero_is_grey_and_the_largest_weight_white_or_black() -> None:
    weight = torch.zeros(3, 3072)
    values = [[0.5, -0.25, 0], [torch.inf, 1, torch.nan], [0, 0, 0]]
    weight[:, :3] = torch.tensor(values)  # red of the first pixels
    images = weight_images([weight])
    shades = [[255, 63, 127], [127, 255, 127], [127, 127, 127]]
    assert images[:, 0, 0, :3].tolist() == shades
    assert images[:, 1:].unique().tolist() == [127]


@pytest.mark.parametrize(("model", "side"), [(MLP, 64), (DeepMLP, 64), (NumpyMLP, 64), (CNN, 63)])
def test_the_first_layer_of_a_model_is_drawn(model: type, side: int) -> None:
    images = weight_images(model().network.parameters())
    assert tiles(images).shape == (*(2 * (8 * (side + GAP) + GAP,)), 3)


def test_weights_that_do_not_look_at_images_are_left_out() -> None:
    assert weight_images([torch.zeros(5), torch.zeros(4, 7)]) is None
    assert weight_images([]) is None
