"""What happens inside an MLP of one hidden layer while it trains: a Lightning callback.

It looks at a quarter of the test images: float32 inputs (N, 3072), hidden activations (N, U),
logits (N, C). It only reads weights, so it works for ``mlp`` and ``numpy_mlp`` alike and changes no
run.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.errors import UserError

EARLY_STEPS = (0, 1, 2, 5, 10, 20, 50)  # looked at besides the steps of the evaluations
# Every fourth test image, and for the curvature a fifth of those. They may be sorted by class.
LOOK_EVERY, CURVATURE_EVERY = 4, 5
CURVATURE_ITERATIONS = 20


class Probe(Callback):
    """Notes each step's training loss, and the state of the network now and then.

    Args:
        data: whose test images are looked at; set up already.

    Attributes:
        losses: the training batch's loss at each step, before its update.
        points: one for each step of EARLY_STEPS and each evaluation; see ``look`` and ``learned``.
        curvature: before the first and after the last step; see ``largest_curvature``.
    """

    def __init__(self, data: CIFAR10DataModule) -> None:
        self.images = torch.from_numpy(data.image_set.test_images[::LOOK_EVERY])
        self.labels = torch.from_numpy(data.image_set.test_labels[::LOOK_EVERY])
        self.losses: list[float] = []
        self.points: list[dict[str, float]] = []
        self.curvature: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the network before its first step."""
        self.inputs = pl_module.normalize(self.images).flatten(1)
        self.first = weights_of(pl_module)[0]
        self._look(trainer, pl_module)
        self._measure_curvature(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the loss of the step."""
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step in EARLY_STEPS:
            self._look(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the network and takes the accuracy that the evaluation found."""
        self._look(trainer, pl_module)
        self.points[-1]["accuracy"] = round(float(trainer.callback_metrics["acc/test"]), 6)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the curvature at the end."""
        self._measure_curvature(pl_module)

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        weights = weights_of(module)
        seen = look(weights, self.inputs, self.labels)
        seen["learned"] = learned(self.first, weights[0], self.inputs)
        self.points.append({"step": trainer.global_step, **seen})

    def _measure_curvature(self, module: LightningModule) -> None:
        sample = self.inputs[::CURVATURE_EVERY], self.labels[::CURVATURE_EVERY]
        self.curvature.append(largest_curvature(weights_of(module), *sample))


def weights_of(module: LightningModule) -> list[Tensor]:
    """Copies of weight (U, D), bias (U,), weight (C, U) and bias (C,), input to output.

    Raises:
        UserError: another number of hidden layers than one.
    """
    found = [parameter.detach().clone() for parameter in module.network.parameters()]
    if len(found) != 4:
        raise UserError(
            f"--hidden_units: {len(found) // 2 - 1} hidden layers; what is measured here is of one"
        )
    return found


@torch.no_grad()
def look(weights: list[Tensor], inputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Describes the network on a set of images.

    Args:
        weights: see ``weights_of``.
        inputs: float32 (N, D).
        labels: int64 (N,).

    Returns:
        ``loss``; ``dead``, the fraction of the hidden units that are 0 for all N images;
        ``active``, the mean fraction of the images for which a unit is above 0; ``logit``, the mean
        over the images of the largest absolute logit; ``first`` and ``second``, the norms of the
        weights.
    """
    first, bias, second, second_bias = weights
    hidden = F.relu(F.linear(inputs, first, bias))  # (N, U)
    logits = F.linear(hidden, second, second_bias)  # (N, C)
    active = (hidden > 0).float().mean(0)  # (U,)
    found = {
        "loss": F.cross_entropy(logits, labels),
        "dead": (active == 0).float().mean(),
        "active": active.mean(),
        "logit": logits.abs().amax(1).mean(),
        "first": first.norm(),
        "second": second.norm(),
    }
    return {name: float(value) for name, value in found.items()}


def learned(initial: Tensor, weight: Tensor, inputs: Tensor) -> float:
    """How much of what a layer computes it has learned: a fraction from 0 to 1.

    With ``change = weight - initial`` it is V(change) / (V(change) + V(initial)), V(W) being the
    variance of ``W x`` over the inputs, summed over the units; the covariance of the two is left
    out. Norms of the weights would mislead:
    neighbouring pixels are alike, so a smooth change tells in the sum, a rough start averages out.

    Args:
        initial: the weight (U, D) before training.
        weight: the same now.
        inputs: float32 (N, D).
    """
    change, start = (
        float(F.linear(inputs, part).var(0).sum()) for part in (weight - initial, initial)
    )
    return change / (change + start)


def largest_curvature(weights: list[Tensor], inputs: Tensor, labels: Tensor) -> float:
    """The largest absolute eigenvalue of the loss's Hessian in the weights, by power iteration.

    An estimate from below.

    Gradient descent with a rate ``lr`` leaves a minimum, instead of approaching it, along a
    direction whose curvature is above ``2 / lr``.

    Args:
        weights: see ``weights_of``.
        inputs: float32 (N, D).
        labels: int64 (N,).
    """
    weights = [weight.requires_grad_() for weight in weights]
    first, bias, second, second_bias = weights
    logits = F.linear(F.relu(F.linear(inputs, first, bias)), second, second_bias)
    gradients = torch.autograd.grad(F.cross_entropy(logits, labels), weights, create_graph=True)
    generator = torch.Generator().manual_seed(0)  # leaves the run's own random numbers alone
    vector = [torch.randn(weight.shape, generator=generator) for weight in weights]
    norm = torch.zeros(())
    for _ in range(CURVATURE_ITERATIONS + 1):  # the first only scales the vector
        norm = torch.cat([part.flatten() for part in vector]).norm()
        vector = [part / norm.clamp_min(1e-30) for part in vector]
        vector = list(torch.autograd.grad(gradients, weights, vector, retain_graph=True))
    return float(torch.cat([part.flatten() for part in vector]).norm())
