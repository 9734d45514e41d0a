"""Networks: a sequence of layers, and the two networks of the report, the MLP and the CNN."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cifar_lab.numpy_reference.activations import ReLU
from cifar_lab.numpy_reference.batch_norm import BatchNorm
from cifar_lab.numpy_reference.conv import Conv3x3
from cifar_lab.numpy_reference.dropout import Dropout
from cifar_lab.numpy_reference.layer import Array, Layer, Rng, Std
from cifar_lab.numpy_reference.linear import Linear
from cifar_lab.numpy_reference.pooling import AvgPool, Flatten, MaxPool
from cifar_lab.numpy_reference.weight_norm import WeightNormLinear


class Sequential:
    """A sequence of layers. Iterating yields ``(name, layer)`` for layers with parameters.

    The name is the position of the layer, "0", "1" and so on, as in ``torch.nn.Sequential``. A
    layer of your own needs ``forward`` and ``backward``, and ``params`` only if it has parameters.

    Args:
        layers: layers, from first to last.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def forward(self, x: Array) -> Array:
        """Return the output for ``x``."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout: Array) -> Array:
        """Fill the ``grads`` of every layer and return the gradient with respect to ``x``."""
        for layer in reversed(self.layers):  # the chain rule, from the loss to the input
            dout = layer.backward(dout)
        return dout

    def train(self, mode: bool = True) -> None:
        """Set all layers to training mode or, with False, to evaluation mode."""
        for layer in self.layers:
            layer.training = mode

    def __iter__(self) -> Iterator[tuple[str, Layer]]:
        layers = enumerate(self.layers)
        return ((str(i), layer) for i, layer in layers if getattr(layer, "params", None))


class MLP(Sequential):
    """A multi-layer perceptron that returns logits: linear, ReLU, …, linear.

    The softmax is not part of it, because ``SoftmaxCrossEntropy`` takes logits. A hidden layer is a
    linear or weight-normalized layer, batch normalization if chosen, ReLU, and dropout if p is
    above 0.

    Args:
        n_inputs: number of features of a sample, 3072 for a CIFAR-10 image.
        n_hidden: number of units of each hidden layer; empty for a linear classifier.
        n_classes: number of logits of a sample.
        std: standard deviation of the initial weights, with biases of 0, or "he" for √(2/fan_in),
            or None for PyTorch's default. The report uses 0.0001, with one hidden layer; through
            several layers of such weights, next to no gradient passes.
        batch_norm: whether hidden layers are batch-normalized.
        weight_norm: whether the linear layers of hidden layers are weight-normalized.
        dropout: probability of dropping a hidden unit, at least 0 and below 1.
        rng: generator or seed for the weights and the dropped units.
        dtype: float32 or float64.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: Sequence[int],
        n_classes: int,
        *,
        std: Std = 1e-4,
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
    """The small VGG of the report for 32×32 images, which returns logits.

    It has eight convolutions, each followed by batch normalization and ReLU, five poolings, and one
    linear layer. For width w the channels are w, 2w, 4w, 4w, 8w, 8w, 8w, 8w. The report's width is
    64, which is too slow to train in NumPy. Weights are initialized as in PyTorch.

    Args:
        width: number of channels of the first convolution, at least 1.
        n_classes: number of logits of an image.
        in_channels: number of channels of an image.
        rng: generator or seed for the weights.
        dtype: float32 or float64.
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
            layers.append(MaxPool(3, 2, 1))  # halves height and width
        layers += [AvgPool(1, 1), Flatten()]  # a 1×1 window changes nothing; the report has it
        super().__init__([*layers, Linear(in_channels, n_classes, std=None, rng=rng, dtype=dtype)])
