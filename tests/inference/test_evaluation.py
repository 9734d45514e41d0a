"""The numbers of an evaluation, against NumPy in float64 and by hand."""

import numpy as np
import pytest
import torch

from cifar_lab.errors import UserError
from cifar_lab.inference.evaluation import calibration_error, evaluate_logits

NAMES = ("a", "b", "c", "d")


def _random(count: int = 500, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are right about half of the time, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (count,), generator=generator)
    logits = torch.randn(count, 4, generator=generator)
    logits[torch.arange(count), labels] += 1
    return scale * logits, labels


def _probabilities(logits: torch.Tensor) -> np.ndarray:
    powers = np.exp(logits.numpy().astype(np.float64))
    return powers / powers.sum(1, keepdims=True)


def test_numbers_and_rows_of_the_classes_are_those_of_numpy() -> None:
    logits, labels = _random()
    result = evaluate_logits(logits, labels)
    predicted, true = logits.numpy().argmax(1), labels.numpy()
    confusion = np.zeros((4, 4), dtype=int)
    np.add.at(confusion, (true, predicted), 1)
    assert np.array_equal(result.confusion, confusion)
    assert result.images == 500
    assert result.correct == (predicted == true).sum()
    assert result.accuracy == (predicted == true).mean()
    loss = -np.log(_probabilities(logits)[np.arange(500), true]).mean()
    assert result.loss == pytest.approx(loss, rel=1e-5)
    rows = result.classes(NAMES)
    assert [row.name for row in rows] == list(NAMES)
    for label, row in enumerate(rows):
        assert row.images == (true == label).sum()
        assert row.correct == ((true == label) & (predicted == label)).sum()
        assert row.accuracy == (predicted == true)[true == label].mean()
        assert row.precision == (predicted == true)[predicted == label].mean()
    assert len({row.accuracy for row in rows} | {row.precision for row in rows}) == 8


def test_rates_of_nothing_are_undefined() -> None:
    logits = torch.eye(4)[[0, 0, 1]]
    rows = evaluate_logits(logits, torch.tensor([0, 3, 1])).classes(NAMES)
    assert [row.accuracy for row in rows] == [1, 1, None, 0]
    assert [row.precision for row in rows] == [0.5, 1, None, None]


@pytest.mark.parametrize(
    ("confidences", "labels", "bins", "by_hand"),
    [  # three bins that hold images; and confidences of one, which belong to the last bin
        ([0.9, 0.85, 0.7, 0.65, 0.55], [0, 1, 0, 0, 1], 5, (2 * 0.375 + 2 * 0.325 + 0.55) / 5),
        ([1.0, 1.0, 0.95, 0.95], [0, 1, 0, 0], 15, (2 * 1 + 2 * 0.95) / 4 - 3 / 4),
    ],
)
def test_calibration_error_by_hand(confidences, labels, bins: int, by_hand: float) -> None:
    right = torch.tensor(confidences)
    logits = torch.stack([right, 1 - right], 1).log().clamp(min=-1000)
    assert logits.softmax(1).max() == max(right)
    found = calibration_error(logits, torch.tensor(labels), bins=bins)
    assert found == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_calibration_error_is_that_of_numpy(scale: float) -> None:
    logits, labels = _random(2000, scale)
    probabilities = _probabilities(logits)
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels.numpy()
    number = np.minimum((15 * confidence).astype(int), 14)
    expected = sum(
        abs(right[number == bin].sum() - confidence[number == bin].sum()) for bin in range(15)
    )
    found = evaluate_logits(logits, labels).calibration_error
    assert found == pytest.approx(expected / 2000, abs=1e-5)
    assert 0.01 < found < 0.6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_logits_too_large_to_compute_with_are_refused(value: float) -> None:
    logits = torch.tensor([[value, -value], [0.0, 1.0]])
    with pytest.raises(UserError, match="not finite"):
        evaluate_logits(logits, torch.tensor([1, 0]))
