"""Muon: stochastic gradient descent with momentum whose matrix updates are made orthogonal.

A few directions dominate the momentum of a weight matrix. Muon replaces it with the nearest matrix
whose singular values are all equal, so that every direction is learned at the same rate. Biases and
the last layer use the plain update (models/fast.py builds the groups).

Source: Keller Jordan and others, "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon/), and its use for CIFAR-10 in cifar10-airbench
(https://github.com/KellerJordan/cifar10-airbench), which also keeps the norm of each weight fixed.
``torch.optim.Muon`` accepts only matrices: no filters, and no plain group beside them.
"""

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cifar_lab import internals

# Coefficients of the quintic a·x + b·x³ + c·x⁵, from the first source. Its slope at 0 is as large
# as possible, provided that iterations map every value in (0, 1] to one between 0.68 and 1.21.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


class Muon(Optimizer):
    """Nesterov momentum with two kinds of parameter groups.

    A plain group is updated as by ``torch.optim.SGD(nesterov=True)``. In a group with
    ``orthogonal=True`` the update of a weight (fan_out, …) is made orthogonal as a matrix with
    fan_out rows. The weight keeps the Frobenius norm of an orthogonal matrix of its shape, so that
    ``lr`` is about the relative change of the weight in a step.

    Args:
        groups: parameters, or parameter groups with their own values of the arguments below.
        lr: learning rate, above 0.
        momentum: momentum, in [0, 1).
        weight_decay: share of the weights added to the gradient in plain groups, at least 0.
        orthogonal: whether updates are made orthogonal.
        iterations: number of Newton-Schulz iterations, at least 1.

    Raises:
        ValueError: a value is out of its range, or an orthogonal group has a vector.
    """

    def __init__(
        self,
        groups: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        orthogonal: bool = False,
        iterations: int = 3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(groups, {**defaults, "orthogonal": orthogonal, "iterations": iterations})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, after checking its values and shapes."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not group["lr"] > 0:
            raise ValueError(f"lr {group['lr']}: expected a number above 0")
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum {group['momentum']}: expected at least 0 and below 1")
        if not group["weight_decay"] >= 0:
            raise ValueError(f"weight_decay {group['weight_decay']}: expected at least 0")
        if group["iterations"] < 1:
            raise ValueError(f"iterations {group['iterations']}: expected at least 1")
        if group["orthogonal"] and any(parameter.ndim < 2 for parameter in group["params"]):
            raise ValueError("an orthogonal group takes parameters of at least two dimensions")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; return the result of ``closure``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            updates = self._momentum(parameters, group)
            if group["orthogonal"]:
                _fix_norms(parameters)
                updates = orthogonalize(updates, group["iterations"])
            internals.foreach_mul_(updates, group["lr"])  # a tensor in a captured step
            internals.foreach_sub_(parameters, updates)
        return loss

    def _momentum(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Return the updates of Nesterov momentum, in the shapes of the parameters."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        decay, momentum = group["weight_decay"], group["momentum"]
        if decay and not group["orthogonal"]:
            gradients = list(internals.foreach_add(gradients, parameters, alpha=decay))
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        velocities = [self.state[parameter]["momentum"] for parameter in parameters]
        internals.foreach_mul_(velocities, momentum)
        internals.foreach_add_(velocities, gradients)
        return list(internals.foreach_add(gradients, velocities, alpha=momentum))


def _fix_norms(parameters: list[Tensor]) -> None:
    """Scale each weight to the Frobenius norm of an orthogonal matrix of its shape."""
    factors = internals.foreach_add(internals.foreach_norm(parameters), EPS)
    internals.foreach_reciprocal_(factors)
    internals.foreach_mul_(factors, [sqrt(min(p.flatten(1).shape)) for p in parameters])
    internals.foreach_mul_(parameters, factors)


def orthogonalize(updates: Sequence[Tensor], iterations: int) -> list[Tensor]:
    """Return approximations of the nearest matrices with singular values 1: ``U Vᵀ`` of ``U S Vᵀ``.

    The Newton-Schulz iteration needs only matrix products. After three iterations, singular
    values that were at least a fiftieth of the Frobenius norm are between 0.68 and 1.21; smaller
    ones have grown up to 41 times.

    Each iteration multiplies ``x`` by ``p = a + b·g + c·g²`` with ``g = x xᵀ``, which commutes with
    ``p``. So the next ``g`` is ``p g p``, and only the first ``g`` and the last product involve the
    long side. Source: "Gram Newton-Schulz" (https://dao-lab.ai/blog/2026/gram-newton-schulz), which
    warns against half precision, so the products are float32, or float64 for a float64 matrix.
    Matrices with the same short side are computed in one batch.

    Args:
        updates: floating-point tensors (M, …), each treated as a matrix with M rows. The results
            have their shapes and dtypes.
        iterations: number of iterations, at least 1.
    """
    matrices = [update.flatten(1) for update in updates]
    wide = [m.mT if len(m) > m.shape[1] else m for m in matrices]  # (m, n) with m <= n
    wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in wide]
    products: dict[int, Tensor] = {}
    kinds = [(len(x), x.dtype, x.device) for x in wide]
    for kind in dict.fromkeys(kinds):
        chosen = [index for index, other in enumerate(kinds) if other == kind]
        grams = torch.stack([wide[index] @ wide[index].mT for index in chosen])
        products.update(zip(chosen, _newton_schulz(grams, iterations), strict=True))
    found = [products[index] @ x for index, x in enumerate(wide)]
    found = [x.mT if len(m) > m.shape[1] else x for x, m in zip(found, matrices, strict=True)]
    return [x.to(u.dtype).reshape(u.shape) for x, u in zip(found, updates, strict=True)]


def _newton_schulz(grams: Tensor, iterations: int) -> Tensor:
    """Return the factors (K, m, m) that make x orthogonal from the left, given ``x xᵀ``."""
    norms = grams.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt() + EPS  # Frobenius norms of x
    grams = grams / norms.square()[:, None, None]
    product = factor = _polynomial(grams)
    for _ in range(iterations - 1):
        grams = factor @ grams @ factor
        factor = _polynomial(grams)
        product = factor @ product
    return product / norms[:, None, None]


def _polynomial(grams: Tensor) -> Tensor:
    """Return ``a + b·gram + c·gram²`` of each, (K, m, m)."""
    a, b, c = COEFFICIENTS
    found = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
    found.diagonal(dim1=-2, dim2=-1).add_(a)
    return found
