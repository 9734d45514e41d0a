"""The convolutional network of the report (system 8), a small VGG.

It has eight 3×3 convolutions, each followed by batch normalization and ReLU, and five max poolings
that halve the image; the last leaves one pixel. A forward pass takes about 0.31 GFLOP per image.

    conv 64, pool, conv 128, pool, 2 × conv 256, pool, 2 × conv 512, pool, 2 × conv 512, pool,
    average pool, linear

Source of the design: Simonyan and Zisserman, "Very Deep Convolutional Networks"
(https://arxiv.org/abs/1409.1556). The average pooling at the end is 1×1, as in the report, and
changes nothing for 32×32 images.
"""

import torch
from torch import Tensor, nn

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.layers import batch_norm
from cifar_lab.models.classifier import ImageClassifier

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # channels before each max pooling


class CNNNetwork(nn.Sequential):
    """Stages of convolutions that end in a 3×3 max pooling of stride 2, then a linear layer.

    Args:
        num_classes: number of outputs.
        batchnorm: "native" (``nn.BatchNorm2d``), "manual" (backward pass by hand) or "composed"
            (elementary operations and autograd); all compute the same function.
    """

    def __init__(self, num_classes: int, batchnorm: str = "native") -> None:
        layers: list[nn.Module] = []
        channels = IMAGE_SHAPE[0]
        for stage in STAGES:
            for width in stage:
                convolution = nn.Conv2d(channels, width, 3, padding=1)
                layers += [convolution, batch_norm(width, 2, batchnorm), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        layers += [nn.AvgPool2d(1, stride=1), nn.Flatten(), nn.Linear(channels, num_classes)]
        super().__init__(*layers)
        # Convolutions are fastest in this layout, on the CPU (oneDNN) and on a GPU.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (B, 3, 32, 32) to logits (B, num_classes)."""
        return super().forward(images.contiguous(memory_format=torch.channels_last))


class CNN(ImageClassifier):
    """The report's CNN; its settings are those of CNNNetwork and ImageClassifier."""

    def __init__(
        self,
        batchnorm: str = "native",
        normalization: str = "mean_image",
        optimizer: str = "adam",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        num_classes: int = 10,
    ) -> None:
        network = CNNNetwork(num_classes, batchnorm)
        super().__init__(network, num_classes, normalization, optimizer, lr, weight_decay)
        self.save_hyperparameters()
