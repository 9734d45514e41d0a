"""What a layer is: `forward` and `backward` side by side, and two dictionaries.

`forward(x)` computes the output and keeps what the backward pass needs. `backward(dout)` takes the
gradient of the loss with respect to that output, **overwrites** `grads` with the gradients of the
parameters, and returns the gradient with respect to `x`. Nothing accumulates, and neither `x` nor
`dout` is changed. Layers compute in the dtype of their input, float32 or float64; every other input
is a TypeError. `params` is read anew at every call, so between two steps an array in it may be
changed in place or replaced. Between `forward` and its `backward` neither `params` nor `x`, which
is not copied, may be changed.
"""

from cifar_lab.numpy_reference.checks import Array


class Layer:
    """A layer without parameters; the layers of this package are its subclasses.

    Attributes:
        params: name to array, the parameters; empty for a layer that has none.
        grads: name to array of the same shape; holds gradients once `backward` has run.
        training: whether dropout drops and batch normalization uses the batch's own statistics.
    """

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.training = True

    def forward(self, x: Array) -> Array:
        """Compute the output for `x`."""
        raise NotImplementedError

    def backward(self, dout: Array) -> Array:
        """Fill `grads` and return the gradient with respect to the last `x`."""
        raise NotImplementedError
