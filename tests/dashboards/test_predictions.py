"""What is gathered of an evaluation: counts, and the mistakes made most confidently."""

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from cifar_lab.dashboards.predictions import MISTAKES, PredictionRecord


def _batches(count: int, size: int = 40) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator),
            torch.randn(size, 4, generator=generator),
            torch.randint(4, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def _read(batches: list[tuple[torch.Tensor, ...]]):
    record = PredictionRecord()
    for batch in batches:
        record.update(*batch)
    return record.read()


def test_the_confusion_matrix_is_that_of_torchmetrics() -> None:
    batches = _batches(3)
    logits, labels = (torch.cat([batch[n] for batch in batches]) for n in (1, 2))
    expected = multiclass_confusion_matrix(logits, labels, num_classes=4)
    np.testing.assert_array_equal(_read(batches).confusion, expected)


def test_mistakes_are_the_most_confident_ones_of_all_batches() -> None:
    batches = _batches(3)
    images, logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    confidence, predicted = logits.softmax(1).max(1)
    wrong = (predicted != labels).nonzero().flatten()
    order = wrong[confidence[wrong].argsort(descending=True)][:MISTAKES]
    mistakes = _read(batches).mistakes
    np.testing.assert_array_equal(mistakes.images, images[order])
    np.testing.assert_array_equal(mistakes.labels, labels[order])
    np.testing.assert_array_equal(mistakes.predicted, predicted[order])
    np.testing.assert_allclose(mistakes.confidence, confidence[order], rtol=1e-6)


def test_a_right_prediction_is_no_mistake() -> None:
    labels = torch.arange(4)
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    predictions = _read([(images, 5 * torch.eye(4), labels)])
    assert predictions.mistakes.images.shape == (0, 3, 32, 32)
    one_wrong = _read([(images, 5 * torch.eye(4), torch.tensor([0, 1, 2, 0]))])
    assert (one_wrong.mistakes.labels.tolist(), one_wrong.mistakes.predicted.tolist()) == ([0], [3])


def test_predictions_that_are_not_finite_can_be_drawn() -> None:
    images, logits, labels = _batches(1)[0]
    logits[0], logits[1] = torch.nan, torch.inf
    predictions = _read([(images, logits, labels)])
    assert np.isfinite(predictions.probabilities).all()
    assert predictions.confusion.sum() == len(labels)
    assert np.isfinite(predictions.mistakes.confidence).all()
