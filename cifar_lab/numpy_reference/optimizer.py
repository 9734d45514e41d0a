"""Gradient descent: SGD with momentum, and Adam. Both update the arrays of ``params`` in place.

A torch tensor that shares their memory therefore gets the new values too. The state is kept for
each parameter, in the order of the layers; ``params`` and ``grads`` are read at each step.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from cifar_lab.numpy_reference.layer import Array, Layer
from cifar_lab.numpy_reference.network import Sequential


class Optimizer:
    """Base class of the optimizers. Their ``lr`` may be changed between steps."""

    def __init__(self, network: Sequential | Sequence[Layer], lr: float) -> None:
        if not lr >= 0:
            raise ValueError(f"lr is {lr}; expected at least 0")
        self.layers = list(network.layers if isinstance(network, Sequential) else network)
        self.lr = lr
        self.state: dict[tuple[int, str], list[Array]] = {}

    def step(self) -> None:
        """Update all parameters in place with the gradients of the last ``backward``."""
        raise NotImplementedError

    def _parameters(self, n_moments: int) -> Iterator[tuple[Array, Array, list[Array]]]:
        """Yield each parameter with its gradient and its moments, which start at zero."""
        for index, layer in enumerate(self.layers):
            for name, param in getattr(layer, "params", {}).items():  # some layers have none
                if name not in layer.grads:
                    raise RuntimeError(f"layer {index} has no gradient: call backward before step")
                if (index, name) not in self.state:
                    self.state[index, name] = [np.zeros_like(param) for _ in range(n_moments)]
                yield param, layer.grads[name], self.state[index, name]


class SGD(Optimizer):
    """Stochastic gradient descent with (heavy-ball) momentum.

    ``v ← κ v + g; θ ← θ − η v`` with η = ``lr``, which is PyTorch's convention: v starts at 0, g is
    not multiplied by 1 − κ, and a change of ``lr`` takes full effect at once.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
    https://proceedings.mlr.press/v28/sutskever13.html, where the learning rate is inside v.

    Args:
        network: network, or a sequence of layers.
        lr: learning rate, at least 0.
        momentum: κ, in [0, 1).
    """

    def __init__(
        self, network: Sequential | Sequence[Layer], lr: float, momentum: float = 0.0
    ) -> None:
        super().__init__(network, lr)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; expected at least 0 and below 1")
        self.momentum = momentum

    def step(self) -> None:
        """Update all parameters in place."""
        if self.momentum == 0:
            for param, grad, _ in self._parameters(0):
                param -= self.lr * grad
            return
        for param, grad, (velocity,) in self._parameters(1):
            velocity *= self.momentum  # v ← κ v + g
            velocity += grad
            param -= self.lr * velocity


class Adam(Optimizer):
    """Adam, which changes each parameter by about ``lr``, whatever the scale of its gradient.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization",
    https://arxiv.org/abs/1412.6980, Algorithm 1. There, and in PyTorch, epsilon is added outside
    the square root.

    Args:
        network: network, or a sequence of layers.
        lr: learning rate, at least 0.
        betas: decay rates of the two moments, each in [0, 1).
        eps: number that is added to the denominator, above 0.
    """

    def __init__(
        self,
        network: Sequential | Sequence[Layer],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(network, lr)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; expected two values of at least 0 and below 1")
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected more than 0")
        self.betas, self.eps, self.t = betas, eps, 0

    def step(self) -> None:
        """Update all parameters in place."""
        self.t += 1
        beta1, beta2 = self.betas
        # The moments start at 0; dividing by 1 − βᵗ corrects the bias.
        unbias1, unbias2 = 1 - beta1**self.t, 1 - beta2**self.t
        for param, grad, (m, v) in self._parameters(2):
            m += (1 - beta1) * (grad - m)  # m ← β₁ m + (1 − β₁) g
            v += (1 - beta2) * (grad * grad - v)  # v ← β₂ v + (1 − β₂) g²
            param -= self.lr / unbias1 * m / (np.sqrt(v / unbias2) + self.eps)
