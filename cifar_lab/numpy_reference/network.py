"""Layers in a row, and the report's two kinds of network: the MLP and the CNN."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.checks import Array
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.flatten import Flatten
from cifar_lab.numpy_reference.initial import Rng
from cifar_lab.numpy_reference.layer import Layer
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.pooling import AvgPool, MaxPool
from cifar_lab.numpy_reference.relu import ReLU
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear


class Sequential:
    """Layers one after another; iterating gives `(name, layer)` for those with parameters.

    The name is the layer's position, "0", "1" and so on, as in `torch.nn.Sequential`.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def forward(self, x: Array) -> Array:
        """Pass `x` through every layer, first to last."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout: Array) -> Array:
        """Pass the gradient of the output back through every layer; fill their `grads`.

        Returns:
            The gradient with respect to the input of `forward`.
        """
        for layer in reversed(self.layers):  # the chain rule, from the loss to the input
            dout = layer.backward(dout)
        return dout

    def train(self, mode: bool = True) -> None:
        """Set every layer to training (dropout, batch statistics) or, with False, evaluation."""
        for layer in self.layers:
            layer.training = mode

    def __iter__(self) -> Iterator[tuple[str, Layer]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers) if layer.params)


class MLP(Sequential):
    """A multi-layer perceptron that ends in logits: linear, ReLU, …, linear.

    The softmax is not part of it: `SoftmaxCrossEntropy` takes the logits. A hidden layer is linear
    (or weight-normalised), batch normalization if asked for, ReLU, dropout if p is above 0.

    Args:
        n_inputs: features of a sample, 3072 for a CIFAR-10 image.
        n_hidden: units of each hidden layer; empty for a linear classifier.
        n_classes: logits of a sample.
        std: the weights start as N(0, std²) and the biases at 0; the report's is 0.0001.
            None: PyTorch's default.
        batch_norm: whether hidden layers are batch-normalised.
        weight_norm: whether the linear layer of each hidden layer is weight-normalised.
        dropout: the probability of dropping a hidden unit, at least 0 and below 1.
        rng: a generator or a seed for the weights and the dropped units.
        dtype: float32 or float64.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: Sequence[int],
        n_classes: int,
        *,
        std: float | None = 1e-4,
        batch_norm: bool = False,
        weight_norm: bool = False,
        dropout: float = 0.0,
        rng: Rng = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        rng = np.random.default_rng(rng)
        linear = WeightNormLinear if weight_norm else Linear
        layers: list[Layer] = []
        for n_units in n_hidden:
            layers.append(linear(n_inputs, n_units, std=std, rng=rng, dtype=dtype))
            layers += [BatchNorm(n_units, dtype=dtype)] if batch_norm else []
            layers.append(ReLU())
            layers += [Dropout(dropout, rng=rng)] if dropout else []
            n_inputs = n_units
        super().__init__([*layers, Linear(n_inputs, n_classes, std=std, rng=rng, dtype=dtype)])


class CNN(Sequential):
    """The report's small VGG for 32×32 images: eight convolutions, five poolings, one linear layer.

    Every convolution is followed by batch normalization and ReLU. It ends in logits. For width w
    the channels are w, 2w, 4w, 4w, 8w, 8w, 8w, 8w; the report's width is 64, too slow for NumPy to
    train. Weights start as PyTorch's.

    Args:
        width: channels of the first convolution, at least 1.
        n_classes: logits of an image.
        in_channels: channels of an image.
        rng: a generator or a seed for the weights.
        dtype: float32 or float64.

    Raises:
        ValueError: a setting is out of range. `forward` raises it for images of another size.
    """

    def __init__(
        self,
        width: int = 64,
        n_classes: int = 10,
        *,
        in_channels: int = 3,
        rng: Rng = None,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        rng = np.random.default_rng(rng)
        layers: list[Layer] = []
        for multiples in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
            for multiple in multiples:
                n = width * multiple
                conv = Conv3x3(in_channels, n, rng=rng, dtype=dtype)
                layers += [conv, BatchNorm(n, dtype=dtype), ReLU()]
                in_channels = n
            layers.append(MaxPool(3, 2, 1))  # half the height and width
        layers += [AvgPool(1, 1), Flatten()]  # a 1×1 window changes nothing; the report has it
        super().__init__([*layers, Linear(in_channels, n_classes, std=None, rng=rng, dtype=dtype)])
