"""Views of an image and their weights, against NumPy's padding and slices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cifar_lab.cli.evaluate import COMMAND
from cifar_lab.inference.export_check import difference
from cifar_lab.inference.known_data import KnownSplit
from cifar_lab.inference.logits import SHIFTS, shift, split_logits, tta_logits
from cifar_lab.inference.prediction import predict
from cifar_lab.models import MLP
from cifar_lab.settings import choices

IMAGES = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
WEIGHT = np.random.RandomState(0).randn(3 * 32 * 32, 5) / 1e4


def _model(images: Tensor) -> Tensor:
    assert images.dtype == torch.uint8
    return torch.from_numpy(_logits(images.numpy()))


def _logits(images: np.ndarray) -> np.ndarray:
    """Of a model that is not linear, so that a mean of views is not a view of a mean."""
    return np.tanh(images.reshape(len(images), -1).astype(np.float64) @ WEIGHT)


def _padded(images: Tensor, by: int) -> np.ndarray:
    return np.pad(images.numpy(), ((0, 0), (0, 0), (by, by), (by, by)), mode="reflect")


def _both(images: np.ndarray) -> np.ndarray:
    return _logits(images) / 2 + _logits(images[..., ::-1]) / 2


def test_a_shift_moves_the_image_and_fills_by_reflection() -> None:
    padded = _padded(IMAGES, 3)
    assert np.array_equal(shift(IMAGES, 1, 1).numpy(), padded[..., 2:34, 2:34])
    assert np.array_equal(shift(IMAGES, -3, 2).numpy(), padded[..., 6:, 1:33])
    assert torch.equal(shift(IMAGES, 1, 0)[..., 1:, :], IMAGES[..., :-1, :])
    assert torch.equal(shift(IMAGES, 0, 0), IMAGES)
    assert shift(IMAGES, 1, 1).dtype == torch.uint8


def test_none_is_the_model_itself() -> None:
    assert torch.equal(tta_logits(_model, IMAGES, "none"), _model(IMAGES).float())


NEAR, FAR = _padded(IMAGES, 1), _padded(IMAGES, 3)
SHIFTED = _both(NEAR[..., :32, :32]) / 2 + _both(NEAR[..., 2:, 2:]) / 2
GRID = [_both(FAR[..., y : y + 32, x : x + 32]) for y in (0, 3, 6) for x in (0, 3, 6)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("flip", _both(IMAGES.numpy())),
        ("flip_shift", _both(IMAGES.numpy()) / 2 + SHIFTED / 2),
        ("flip_grid", np.mean(GRID, axis=0)),
    ],
)
def test_the_logits_are_means_over_places_and_mirror_images(kind: str, expected) -> None:
    found = tta_logits(_model, IMAGES, kind)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)


USES: dict[str, Callable[[MLP], object]] = {
    "evaluate": lambda model: split_logits(
        model, KnownSplit(None, IMAGES.numpy(), np.arange(4), np.arange(4)), 4, "none"
    ),
    "export": lambda model: difference(model, lambda images: torch.zeros(1, 3), largest_batch=1),
    "predict": lambda model: list(predict(model, [Path("x.png")])),
}


@pytest.mark.parametrize("use", USES)
def test_a_gpu_computes_in_whole_float32(use: str) -> None:
    seen = []

    class Noting(MLP):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(images)

    Image.new("RGB", (32, 32)).save("x.png")
    before = torch.backends.cudnn.allow_tf32
    USES[use](Noting(hidden_units=[4], num_classes=3).eval())
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_the_command_knows_all_kinds() -> None:
    assert choices(COMMAND.own["tta"].type) == ["none", *SHIFTS]
    with pytest.raises(KeyError):
        tta_logits(_model, IMAGES, "rotate")
