"""A Lightning callback that records what happens inside an MLP with one hidden layer.

It evaluates a quarter of the test images: ``inputs`` float32 (N, D), ``labels`` int64 (N,), hidden
activations (N, U) and logits (N, C). ``weights`` are those of :func:`weights_of`. The callback only
reads them, so it works for ``mlp`` and ``numpy_mlp`` and changes no run.
"""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from cifar_lab.errors import UserError
from cifar_lab.files import write_json
from cifar_lab.run.metrics import MetricsCSV

FILE = "probe.json"  # in the folder of a run
EARLY_STEPS = (0, 1, 2, 5, 10, 20, 50)  # measured besides the steps of the evaluations
# Every fourth test image, and for the curvature a fifth of those. They may be sorted by class.
LOOK_EVERY, CURVATURE_EVERY = 4, 5
CURVATURE_ITERATIONS = 20


class Probe(Callback):
    """Record the training loss of each step, and the state of the network at some steps.

    At the end of training all records are written as ``probe.json`` into the folder of the run.
    """

    def __init__(self) -> None:
        # Losses of the training batch at each step, before its update; a point for each step of
        # EARLY_STEPS and each evaluation; the curvature before the first and after the last step.
        self.found: dict[str, list[Any]] = {"losses": [], "points": [], "curvature": []}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the network before its first step."""
        images = trainer.datamodule.image_set
        inputs = torch.from_numpy(images.test_images[::LOOK_EVERY])
        self.inputs = pl_module.normalize(inputs).flatten(1)
        self.labels = torch.from_numpy(images.test_labels[::LOOK_EVERY])
        self.first = weights_of(pl_module)[0]
        self._look(trainer, pl_module)
        self._measure_curvature(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss of the step."""
        self.found["losses"].append(float(outputs["loss"]))
        if trainer.global_step in EARLY_STEPS:
            self._look(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the network, and record the accuracy of the evaluation."""
        self._look(trainer, pl_module)
        accuracy = round(float(trainer.callback_metrics["acc/test"]), 6)
        self.found["points"][-1]["accuracy"] = accuracy

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the curvature at the end, and write the file."""
        self._measure_curvature(pl_module)
        for log in trainer.loggers:
            if isinstance(log, MetricsCSV):
                write_json(log.path.parent / FILE, self.found, indent=None)

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        weights = weights_of(module)
        seen = look(weights, self.inputs, self.labels)
        seen["learned"] = learned(self.first, weights[0], self.inputs)
        self.found["points"].append({"step": trainer.global_step, **seen})

    def _measure_curvature(self, module: LightningModule) -> None:
        sample = self.inputs[::CURVATURE_EVERY], self.labels[::CURVATURE_EVERY]
        self.found["curvature"].append(largest_curvature(weights_of(module), *sample))


def weights_of(module: LightningModule) -> list[Tensor]:
    """Return copies of weight (U, D), bias (U,), weight (C, U) and bias (C,), input to output."""
    found = [parameter.detach().clone() for parameter in module.network.parameters()]
    if len(found) != 4:
        raise UserError(
            f"--hidden_units: {len(found) // 2 - 1} hidden layers; expected one in this study"
        )
    return found


@torch.no_grad()
def look(weights: list[Tensor], inputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Return measurements of the network on a set of images."""
    first, bias, second, second_bias = weights
    hidden = F.relu(F.linear(inputs, first, bias))  # (N, U)
    logits = F.linear(hidden, second, second_bias)  # (N, C)
    active = (hidden > 0).float().mean(0)  # (U,), fraction of the images
    found = {
        "loss": F.cross_entropy(logits, labels),
        "dead": (active == 0).float().mean(),  # fraction of the units that are 0 for all images
        "active": active.mean(),
        "logit": logits.abs().amax(1).mean(),
        "first": first.norm(),
        "second": second.norm(),
    }
    return {name: float(value) for name, value in found.items()}


def learned(initial: Tensor, weight: Tensor, inputs: Tensor) -> float:
    """Return the learned fraction of a layer's output, from 0 to 1.

    For the weight (U, D) before training and now, with ``change = weight - initial``, it is
    V(change) / (V(change) + V(initial)). V(W) is the variance of ``W x`` over the inputs, summed
    over the units; the covariance of the two is left out. Norms of the weights would mislead:
    neighbouring pixels are alike, so a smooth change adds up, and a rough start averages out.
    """
    change, start = (
        float(F.linear(inputs, part).var(0).sum()) for part in (weight - initial, initial)
    )
    return change / (change + start)


def largest_curvature(weights: list[Tensor], inputs: Tensor, labels: Tensor) -> float:
    """Return the largest absolute eigenvalue of the loss's Hessian in the weights.

    It is estimated from below, by power iteration. Gradient descent with a rate ``lr`` leaves a
    minimum, instead of approaching it, along a direction whose curvature is above ``2 / lr``.
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
