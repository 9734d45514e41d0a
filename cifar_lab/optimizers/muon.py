"""Muon: stochastic gradient descent with momentum whose matrix updates are made orthogonal.

The momentum of a weight matrix is dominated by a few directions. Muon replaces it by the nearest
matrix whose singular values are all alike, so that every direction is learned at the same rate.
Biases and the last layer keep the plain update (models/fast.py chooses).

Source: Keller Jordan and others, "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon/), and its use for CIFAR-10 in cifar10-airbench
(https://github.com/KellerJordan/cifar10-airbench), which also holds the norm of each weight fixed.
``torch.optim.Muon`` takes matrices only, no filters and no plain group beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# Of the quintic a·x + b·x³ + c·x⁵: its slope at 0 is as large as it can be while iterating it takes
# every value in (0, 1] to somewhere between 0.68 and 1.21. From the first source.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


class Muon(Optimizer):
    """Nesterov momentum with two kinds of parameter groups.

    A plain group does what ``torch.optim.SGD(nesterov=True)`` does. In a group with
    ``orthogonal=True`` the update of a weight (fan_out, …) is taken as a matrix with fan_out rows
    and made orthogonal, and the weight keeps the Frobenius norm of an orthogonal matrix of its
    shape; ``lr`` is then about the relative change of the weight in a step.

    Args:
        groups: parameter groups, each with its own options.
        lr: learning rate, above 0.
        momentum: in [0, 1).
        weight_decay: added to the gradient of plain groups, at least 0.
        orthogonal: of the groups that do not say.
        iterations: of Newton and Schulz, at least 1.

    Raises:
        ValueError: a value out of its range, or a vector in an orthogonal group.
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
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonal": orthogonal,
            "iterations": iterations,
        }
        super().__init__(groups, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group.

        Raises:
            ValueError: a value out of its range, or a vector in an orthogonal group.
        """
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
        """Takes one step; gives what ``closure`` gives."""
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
                updates = _orthogonal(updates, group["iterations"])
            torch._foreach_mul_(updates, group["lr"])  # a number, or a tensor that may change
            torch._foreach_sub_(parameters, updates)
        return loss

    def _momentum(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """The updates of Nesterov's momentum, of the parameters' shapes."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if group["weight_decay"] and not group["orthogonal"]:
            decay = group["weight_decay"]
            gradients = list(torch._foreach_add(gradients, parameters, alpha=decay))
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        velocities = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients)
        return list(torch._foreach_add(gradients, velocities, alpha=group["momentum"]))


def _fix_norms(parameters: list[Tensor]) -> None:
    """Gives each weight the Frobenius norm of an orthogonal matrix of its shape."""
    factors = torch._foreach_add(torch._foreach_norm(parameters), EPS)
    torch._foreach_reciprocal_(factors)
    torch._foreach_mul_(factors, [sqrt(min(p.flatten(1).shape)) for p in parameters])
    torch._foreach_mul_(parameters, factors)


def _orthogonal(updates: list[Tensor], iterations: int) -> list[Tensor]:
    """Each update as a matrix, made orthogonal, in its own shape again."""
    matrices = orthogonalize([update.flatten(1) for update in updates], iterations)
    return [m.reshape(u.shape) for m, u in zip(matrices, updates, strict=True)]


def orthogonalize(matrices: Sequence[Tensor], iterations: int) -> list[Tensor]:
    """About the nearest matrices whose singular values are all 1: ``U Vᵀ`` of ``U S Vᵀ``.

    Newton and Schulz's iteration needs matrix products alone. After three iterations the singular
    values that were at least a fiftieth of the Frobenius norm are between 0.68 and 1.21; smaller
    ones have grown up to 41 times.

    Each iteration multiplies ``x`` by ``p = a + b·g + c·g²`` with ``g = x xᵀ``, which commutes with
    ``p``: so the next ``g`` is ``p g p``, and only the first one and the last product touch the
    long side. Source: "Gram Newton-Schulz" (https://dao-lab.ai/blog/2026/gram-newton-schulz), which
    warns of half precision: the products are float32, or float64 for a float64 matrix. Those of
    matrices with the same short side are taken together.

    Args:
        matrices: floating point (M, N), of any M and N.
        iterations: at least 1.

    Returns:
        A matrix for each, of the same shape and dtype.
    """
    wide = [m.mT if len(m) > m.shape[1] else m for m in matrices]  # (m, n) with m <= n
    wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in wide]
    products: dict[int, Tensor] = {}
    kinds = [(len(x), x.dtype, x.device) for x in wide]
    for kind in dict.fromkeys(kinds):
        chosen = [index for index, other in enumerate(kinds) if other == kind]
        grams = torch.stack([wide[index] @ wide[index].mT for index in chosen])
        products.update(zip(chosen, _newton_schulz(grams, iterations), strict=True))
    found = [products[index] @ x for index, x in enumerate(wide)]
    return [
        (x.mT if len(m) > m.shape[1] else x).to(m.dtype)
        for x, m in zip(found, matrices, strict=True)
    ]


def _newton_schulz(grams: Tensor, iterations: int) -> Tensor:
    """What orthogonalises matrices ``x`` from the left, by their ``x xᵀ``; both (K, m, m)."""
    norms = grams.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt() + EPS  # Frobenius norms of x
    grams = grams / norms.square()[:, None, None]
    product = factor = _polynomial(grams)
    for _ in range(iterations - 1):
        grams = factor @ grams @ factor
        factor = _polynomial(grams)
        product = factor @ product
    return product / norms[:, None, None]


def _polynomial(grams: Tensor) -> Tensor:
    """``a + b·gram + c·gram²`` of each, (K, m, m)."""
    a, b, c = COEFFICIENTS
    found = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
    found.diagonal(dim1=-2, dim2=-1).add_(a)
    return found
