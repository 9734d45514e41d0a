"""Temperature scaling and the threshold: what they minimize, and which values are refused."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cifar_lab.models.calibration import Calibration, calibrate


def _drawn(temperature: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are too large by a factor, and labels drawn from the right probabilities."""
    rng = torch.Generator().manual_seed(0)
    right = 2 * torch.randn(count, 5, generator=rng)
    labels = torch.multinomial(right.softmax(1), 1, generator=rng)[:, 0]
    return right * temperature, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_factor_by_which_logits_are_too_large(temperature: float) -> None:
    logits, labels = _drawn(temperature)
    found = calibrate(logits, labels)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    losses = [
        F.cross_entropy(logits.double() / (factor * found.temperature), labels)
        for factor in (0.999, 1, 1.001)
    ]
    assert min(losses) == losses[1]


def test_one_validation_image_in_twenty_lies_below_the_threshold() -> None:
    logits, labels = _drawn(2.0)
    found = calibrate(logits, labels)
    scaled = logits.numpy() / found.temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    highest = (powers / powers.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose(found.probabilities(logits).amax(1), highest, rtol=1e-4)
    below = found.unlike(found.probabilities(logits))
    assert below.float().mean() == pytest.approx(0.05, abs=0.001)
    assert highest[below].max() < found.threshold <= highest[~below].min() + 1e-6


def test_a_model_that_is_always_right_has_a_temperature_too() -> None:
    found = calibrate(torch.eye(3), torch.arange(3))
    assert math.exp(-3) <= found.temperature < 0.06


@pytest.mark.parametrize(
    "values", [(0.0, 0.5), (math.nan, 0.5), (1.0, 1.5), (1.0, -0.1), ("1", 0.5), (math.inf, 0.5)]
)
def test_values_out_of_range_are_refused(values) -> None:
    with pytest.raises(ValueError, match="expected numbers above 0"):
        Calibration(*values)
