"""The registry of models, by the names that ``--model`` accepts.

A new model is a file in this folder, a recipe in ``cifar_lab/recipes`` and a row in the registry.
"""

from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.cnn import CNN
from cifar_lab.models.fast_cnn import FastCNN
from cifar_lab.models.fast_mlp import FastMLP
from cifar_lab.models.mlp import MLP, BatchNormMLP, DeepMLP
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
