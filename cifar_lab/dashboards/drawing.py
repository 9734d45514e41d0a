"""Writes the pictures of a run: the predictions of the model, a batch, and the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.dashboards.confusion import confusion_figure
from cifar_lab.dashboards.figures import class_accuracy_figure, mistakes_figure, rasterise
from cifar_lab.dashboards.predictions import Predictions
from cifar_lab.dashboards.tiles import batch_sheet, weight_sheet

THRESHOLDS = 127  # of a precision-recall curve


def draw_evaluation(
    writer: SummaryWriter,
    predictions: Predictions,
    class_names: Sequence[str],
    tag: str,
    title: str,
    step: int,
) -> None:
    """Writes the figures of an evaluation.

    Args:
        writer: takes them.
        predictions: of N images.
        class_names: of its C classes.
        tag: that tells it from others, such as "val"; figures are ``confusion/<tag>`` and so on.
        title: of each figure.
        step: of the optimizer.
    """
    matrix = predictions.confusion
    figures = {
        "confusion": confusion_figure(matrix, class_names),
        "class_accuracy": class_accuracy_figure(matrix, class_names),
        "mistakes": mistakes_figure(predictions.mistakes, class_names),
    }
    for name, figure in figures.items():
        _add(writer, f"{name}/{tag}", figure, title, step)


def draw_pr_curves(
    writer: SummaryWriter,
    predictions: Predictions,
    class_names: Sequence[str],
    group: str,
    step: int,
) -> None:
    """Writes a precision-recall curve a class, ``<group>/<class>``: this class against the rest."""
    for number, name in enumerate(class_names):
        is_class = predictions.labels == number
        probability = predictions.probabilities[:, number]
        writer.add_pr_curve(f"{group}/{name}", is_class, probability, step, THRESHOLDS)


def draw_batch(writer: SummaryWriter, images: Tensor, step: int) -> None:
    """Writes the images of a training batch, uint8 (B, 3, 32, 32), as ``train/batch``."""
    writer.add_image("train/batch", batch_sheet(images), step, dataformats="HWC")


def draw_weights(writer: SummaryWriter, parameters: Sequence[Tensor], step: int) -> None:
    """Writes the weights of the first layer as ``weights/first_layer``, if they are images."""
    sheet = weight_sheet(parameters)
    if sheet is not None:
        writer.add_image("weights/first_layer", sheet, step, dataformats="HWC")


def draw_histograms(writer: SummaryWriter, network: nn.Module, step: int) -> None:
    """Writes a histogram of each parameter, ``weights/<name>``."""
    for name, parameter in network.named_parameters():
        writer.add_histogram(f"weights/{name}", parameter, step)


def _add(writer: SummaryWriter, tag: str, figure: Figure, title: str, step: int) -> None:
    figure.suptitle(title, fontsize=11)
    pixels: np.ndarray = rasterise(figure)
    writer.add_image(tag, pixels, step, dataformats="HWC")
