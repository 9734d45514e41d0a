"""What is gathered of an evaluation: counts, and the mistakes made most confidently."""

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from cifar_lab.dashboards.predictions import MISTAKES, PredictionRecord, Predictions

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (120, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR)
LOGITS = torch.randn(120, 4, generator=GENERATOR)
LABELS = torch.randint(4, (120,), generator=GENERATOR)


def _read(*given: torch.Tensor) -> Predictions:
    """What is recorded of images, logits and labels, in batches of 40."""
    record = PredictionRecord()
    for batch in zip(*(tensor.split(40) for tensor in given), strict=True):
        record.update(*batch)
    return record.read()


def test_the_confusion_matrix_is_that_of_torchmetrics() -> None:
    expected = multiclass_confusion_matrix(LOGITS, LABELS, num_classes=4)
    np.testing.assert_array_equal(_read(IMAGES, LOGITS, LABELS).confusion, expected)


def test_mistakes_are_the_most_confident_ones_of_all_batches() -> None:
    confidence, predicted = LOGITS.softmax(1).max(1)
    wrong = (predicted != LABELS).nonzero().flatten()
    order = wrong[confidence[wrong].argsort(descending=True)][:MISTAKES]
    mistakes = _read(IMAGES, LOGITS, LABELS).mistakes
    np.testing.assert_array_equal(mistakes.images, IMAGES[order])
    np.testing.assert_array_equal(mistakes.labels, LABELS[order])
    np.testing.assert_array_equal(mistakes.predicted, predicted[order])
    np.testing.assert_allclose(mistakes.confidence, confidence[order], rtol=1e-6)


def test_a_right_prediction_is_no_mistake() -> None:
    images, logits = IMAGES[:4], 5 * torch.eye(4)
    assert _read(images, logits, torch.arange(4)).mistakes.images.shape == (0, 3, 32, 32)
    mistakes = _read(images, logits, torch.tensor([0, 1, 2, 0])).mistakes
    assert (mistakes.labels.tolist(), mistakes.predicted.tolist()) == ([0], [3])


def test_predictions_that_are_not_finite_can_be_drawn() -> None:
    logits = LOGITS.clone()
    logits[0], logits[1] = torch.nan, torch.inf
    predictions = _read(IMAGES, logits, LABELS)
    assert np.isfinite(predictions.probabilities).all()
    assert predictions.confusion.sum() == len(LABELS)
    assert np.isfinite(predictions.mistakes.confidence).all()
