"""Write pictures to TensorBoard and to files: of an evaluation, a training batch, and weights."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod, sqrt
from pathlib import Path

import numpy as np
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor, nn, uint8
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from cifar_lab.dashboards.figures import (
    class_accuracy_figure,
    confusion_figure,
    mistakes_figure,
    rasterise,
)
from cifar_lab.dashboards.predictions import Predictions
from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.files import make_folder, write_atomically
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.plot import save_figure
from cifar_lab.run.run import Run

IMAGES = {"val": "validation images", "test": "test images"}
SHOWN = 64  # tiles of a picture
GAP = 2  # pixels around tiles
TILE = 64  # pixels that a tile is enlarged to


@dataclass(frozen=True)
class Pictures:
    """Where pictures are written: TensorBoard, and a folder that has the newest of each tag."""

    writer: SummaryWriter
    folder: Path

    def add(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Write a picture, uint8 (H, W, 3)."""
        self.writer.add_image(tag, pixels, step, dataformats="HWC")
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG")
        make_folder(self.folder)
        write_atomically(self.folder / f"{tag.replace('/', '_')}.png", encoded.getbuffer())


def draw_curves(folder: RunFolder) -> None:
    """Write ``curves.png``, the accuracy and the loss over the steps."""
    figure = Run(folder).plot()
    figure.suptitle(f"{folder.name}/{folder.version}")
    make_folder(folder.figures)
    save_figure(figure, folder.figures / "curves.png", salt="curves")


def draw_evaluation(
    pictures: Pictures, trainer: Trainer, model: ImageClassifier, predictions: Predictions
) -> None:
    """Write the figures and the precision-recall curves of an evaluation.

    The tags of the figures are ``confusion/<split>``, ``class_accuracy/<split>`` and
    ``mistakes/<split>``. The curves are those of each class against the rest, ``pr/<class>``, or
    ``pr_test/<class>`` in a test.
    """
    step, class_names = trainer.global_step, model.class_names
    split = "test" if trainer.testing else model.evaluated_split
    curves = "pr_test" if trainer.testing else "pr"
    matrix = predictions.confusion
    figures = {
        "confusion": confusion_figure(matrix, class_names),
        "class_accuracy": class_accuracy_figure(matrix, class_names),
        "mistakes": mistakes_figure(predictions.mistakes, class_names),
    }
    for name, figure in figures.items():
        figure.suptitle(_title(trainer, split), fontsize=11)
        pictures.add(f"{name}/{split}", rasterise(figure), step)
    for number, name in enumerate(class_names):
        is_class = predictions.labels == number
        probability = predictions.probabilities[:, number]
        pictures.writer.add_pr_curve(f"{curves}/{name}", is_class, probability, step)


def _title(trainer: Trainer, split: str) -> str:
    """Return what was evaluated, and which weights."""
    checkpoint = Path(str(trainer.ckpt_path)).name
    weights = checkpoint if trainer.testing else f"step {trainer.global_step:,}"
    part = f", part of process 0 of {trainer.world_size}" if trainer.world_size > 1 else ""
    return f"{IMAGES[split]}, {weights}{part}"


def draw_model(pictures: Pictures, network: nn.Module, images: Tensor | None, step: int) -> None:
    """Write the training batch ``train/batch``, uint8 (B, 3, 32, 32), and the first weights.

    The batch is shown as it enters the model, before it is normalized. ``weights/first_layer``
    is written if these weights fit the pixels of an image.
    """
    if images is not None:
        pictures.add("train/batch", tiles(images[:SHOWN].cpu()), step)
    weights = weight_images(network.parameters())
    if weights is not None:
        pictures.add("weights/first_layer", tiles(weights), step)


def weight_images(parameters: Iterable[Tensor]) -> Tensor | None:
    """Return the weights of the first layer as images, one for each unit, uint8 (N, 3, h, w).

    An image is 32×32 pixels for a linear layer and has the size of the kernel for a convolution.
    Each has its own scale, so that weights near zero show their pattern too: mid-grey is 0 or not
    finite, black and white are ± the largest weight.

    The first parameter with two or more axes is taken, except the lengths of units of weight
    normalization. None means that it does not fit the pixels of an image.
    """
    weight = next((p for p in parameters if p.ndim > 1 and p[0].numel() > 1), None)
    if weight is None:
        return None
    weight = weight.detach()[:SHOWN].float().nan_to_num(0, 0, 0).cpu()
    if weight.ndim == 2 and weight.shape[1] == prod(IMAGE_SHAPE):
        weight = weight.reshape(-1, *IMAGE_SHAPE)
    if weight.ndim != 4 or weight.shape[1] != IMAGE_SHAPE[0]:
        return None
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
    return (127.5 + 127.5 * weight / largest.where(largest > 0, 1)).to(uint8)


def tiles(images: Tensor) -> np.ndarray:
    """Return uint8 images (N, 3, h, w), enlarged, on a white square (H, W, 3), row by row."""
    zoom = max(1, TILE // images.shape[-1])
    enlarged = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    grid = make_grid(enlarged, ceil(sqrt(len(images))), padding=GAP, pad_value=255)
    return grid.permute(1, 2, 0).contiguous().numpy()
