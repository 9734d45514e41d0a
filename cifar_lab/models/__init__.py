"""The registry of models, by the name that ``--model`` takes.

A new model is one file here, one recipe in ``cifar_lab/recipes`` and one row below.
"""

from cifar_lab.models.batchnorm_mlp import BatchNormMLP
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.cnn import CNN
from cifar_lab.models.deep_mlp import DeepMLP
from cifar_lab.models.fast_cnn import FastCNN
from cifar_lab.models.fast_mlp import FastMLP
from cifar_lab.models.mlp import MLP
from cifar_lab.models.numpy_mlp import NumpyMLP

REGISTRY: dict[str, type[ImageClassifier]] = {
    "numpy_mlp": NumpyMLP,
    "mlp": MLP,
    "deep_mlp": DeepMLP,
    "batchnorm_mlp": BatchNormMLP,
    "cnn": CNN,
    "fast_cnn": FastCNN,
    "fast_mlp": FastMLP,
}

__all__ = [
    "CNN",
    "MLP",
    "REGISTRY",
    "BatchNormMLP",
    "DeepMLP",
    "FastCNN",
    "FastMLP",
    "ImageClassifier",
    "NumpyMLP",
]
