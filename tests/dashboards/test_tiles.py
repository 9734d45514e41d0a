"""Sheets of small images: the right pixels in the right places."""

import numpy as np
import pytest
import torch

from cifar_lab.dashboards.tiles import GAP, TILE, batch_sheet, weight_sheet
from cifar_lab.models import CNN, MLP, DeepMLP, NumpyMLP


def test_a_batch_is_laid_out_row_by_row_with_its_own_pixels() -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    sheet = batch_sheet(images)
    side = TILE + GAP
    assert sheet.shape == (2 * side - GAP, 3 * side - GAP, 3)
    fourth = sheet[side : side + TILE : 2, 0:TILE:2]  # every pixel is enlarged twice
    np.testing.assert_array_equal(fourth, images[3].permute(1, 2, 0))


def test_zero_is_grey_and_the_largest_weight_white_or_black() -> None:
    weight = torch.zeros(1, 3072)
    weight[0, 0], weight[0, 1] = 0.5, -0.25  # red of the first two pixels
    sheet = weight_sheet([weight])
    assert sheet is not None
    assert [int(v) for v in (sheet[0, 0, 0], sheet[0, 2, 0], sheet[0, 4, 0])] == [255, 63, 127]


@pytest.mark.parametrize(("model", "side"), [(MLP, 64), (DeepMLP, 64), (NumpyMLP, 64), (CNN, 63)])
def test_the_first_layer_of_a_model_is_drawn(model: type, side: int) -> None:
    sheet = weight_sheet(model().network.parameters())
    assert sheet is not None
    assert sheet.shape == (8 * (side + GAP) - GAP,) * 2 + (3,)


def test_weights_that_do_not_look_at_images_are_left_out() -> None:
    assert weight_sheet([torch.zeros(5), torch.zeros(4, 7)]) is None
    assert weight_sheet([]) is None


def test_weights_that_are_not_finite_are_grey() -> None:
    weight = torch.full((1, 3072), torch.nan)
    weight[0, 0], weight[0, 1] = torch.inf, 1.0
    sheet = weight_sheet([weight])
    assert sheet is not None
    assert (int(sheet[0, 0, 0]), int(sheet[0, 2, 0]), int(sheet[9, 9, 1])) == (127, 255, 127)
