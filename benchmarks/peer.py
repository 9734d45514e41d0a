"""The published speed-run that ``fast_cnn`` is compared with, as a plain PyTorch loop.

It follows the recipe of cifar10-airbench with Muon (https://github.com/KellerJordan/cifar10-airbench
and https://arxiv.org/abs/2404.00498), which reaches 94 % on the original CIFAR-10 on a GPU, as the
mean of several views of an image: the network, 8 epochs in batches of 2,000, its rates, flips and
shifts. The code is our own and runs on any device, without its half precision and compilation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 256, 256)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
WHITENING_IMAGES, WHITENING_EPS = 5000, 5e-4
SHIFT = 2  # pixels
MUON = {"lr": 0.24, "momentum": 0.6}
BIAS_LR, HEAD_LR, MOMENTUM = 0.053, 0.67, 0.85  # of SGD on the sum of the losses of a batch
DECAY = 2e-6  # times the batch size, for each step at the highest rate
LABEL_SMOOTHING = 0.2
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class Schedule:
    """The length of a training."""

    epochs: int = 8
    first_bias_epochs: int = 3  # in which the bias of the first layer is trained
    batch_size: int = 2000


class Network(nn.Module):
    """The network; maps normalized images (B, 3, 32, 32) to logits (B, num_classes)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 2)
        self.first.weight.requires_grad_(False)
        blocks: list[nn.Module] = []
        for fan_in, width in zip((24, *WIDTHS), WIDTHS, strict=False):
            blocks += [_convolution(fan_in, width), nn.MaxPool2d(2), _norm(width), nn.GELU()]
            blocks += [_convolution(width, width), _norm(width), nn.GELU()]
        self.blocks = nn.Sequential(nn.GELU(), *blocks, nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(WIDTHS[-1], num_classes, bias=False)
        with torch.no_grad():
            self.head.weight /= self.head.weight.std()
        self.to(memory_format=torch.channels_last)

    def whiten(self, images: Tensor) -> None:
        """Set the filters of the first layer to the whitened components of patches, and back."""
        patches = F.unfold(images, 2).mT.flatten(0, 1)  # (N, 12)
        variances, components = torch.linalg.eigh(patches.mT @ patches / len(patches))
        filters = components.mT / (variances[:, None] + WHITENING_EPS).sqrt()
        self.first.weight.copy_(torch.cat([filters, -filters]).view_as(self.first.weight))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.blocks(self.first(images))) / WIDTHS[-1]


def _convolution(fan_in: int, width: int) -> nn.Module:
    layer = nn.Conv2d(fan_in, width, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[:fan_in])
    return layer


def _norm(width: int) -> nn.Module:
    layer = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


def train(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    autocast: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    schedule: Schedule = Schedule(),  # it is frozen
) -> Network:
    """Train a network with the global random state.

    Args:
        images: raw training images, uint8 (N, 3, 32, 32), on the device that trains.
        labels: their classes, int64 (N,).
        num_classes: number of classes.
        autocast: context of the forward passes.
        schedule: length of the training.
    """
    network = Network(num_classes).to(images.device)
    normalized = normalize(images)
    network.whiten(normalized[:WHITENING_IMAGES])
    schedule = replace(schedule, batch_size=min(schedule.batch_size, len(images)))
    batch_size = schedule.batch_size
    steps = len(images) // batch_size * schedule.epochs
    first_steps = len(images) // batch_size * schedule.first_bias_epochs
    biases = [p for p in network.blocks.parameters() if p.ndim == 1 and p.requires_grad]
    decay = DECAY * batch_size
    bias = network.first.bias
    assert bias is not None
    groups = [
        {"params": [bias], "lr": BIAS_LR, "weight_decay": decay / BIAS_LR},
        {"params": biases, "lr": BIAS_LR, "weight_decay": decay / BIAS_LR},
        {"params": [network.head.weight], "lr": HEAD_LR, "weight_decay": decay / HEAD_LR},
    ]
    sgd = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    filters = [p for p in network.blocks.parameters() if p.ndim == 4]
    velocities = [torch.zeros_like(p) for p in filters]
    rates = [group["lr"] for group in sgd.param_groups]
    for step, (inputs, targets) in enumerate(_batches(normalized, labels, schedule)):
        bias.requires_grad_(step < first_steps)
        with autocast():
            logits = network(inputs)
        F.cross_entropy(
            logits.float(), targets, label_smoothing=LABEL_SMOOTHING, reduction="sum"
        ).backward()
        left = 1 - step / steps
        lefts = (max(0.0, 1 - step / first_steps), left, left)
        for group, rate, share in zip(sgd.param_groups, rates, lefts, strict=True):
            group["lr"] = rate * share
        sgd.step()
        _muon(filters, velocities, MUON["lr"] * left)
        network.zero_grad()
    return network


def normalize(images: Tensor) -> Tensor:
    """Return raw images, uint8 (N, 3, H, W), in units of their standard deviation."""
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, STD))
    normalized = (images / 255 - mean) / std
    return normalized.contiguous(memory_format=torch.channels_last)


def _batches(images: Tensor, labels: Tensor, schedule: Schedule) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches; images are flipped in every other epoch, and shifted anew in each."""
    flipped = torch.rand(len(images), device=images.device) < 0.5
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, [SHIFT] * 4, mode="reflect")
    for epoch in range(schedule.epochs):
        shifted = _shifted(padded)
        if epoch % 2:
            shifted = shifted.flip(3)
        order = torch.randperm(len(images), device=images.device)
        for chosen in order.split(schedule.batch_size):
            if len(chosen) == schedule.batch_size:
                batch = shifted[chosen].contiguous(memory_format=torch.channels_last)
                yield batch, labels[chosen]


def _shifted(padded: Tensor) -> Tensor:
    """Return each image at a random position of its padded copy."""
    choices = 2 * SHIFT + 1
    side = padded.shape[-1] - 2 * SHIFT
    places = torch.randint(choices**2, [len(padded)], device=padded.device)
    found = padded.new_empty(len(padded), padded.shape[1], side, side)
    for place in range(choices**2):
        top, left = divmod(place, choices)
        chosen = (places == place).nonzero().flatten()
        found[chosen] = padded[chosen, :, top : top + side, left : left + side]
    return found


@torch.no_grad()
def _muon(filters: list[nn.Parameter], velocities: list[Tensor], lr: float) -> None:
    """Take a step: Nesterov's momentum, its update made orthogonal, filters of a fixed norm."""
    for weight, velocity in zip(filters, velocities, strict=True):
        assert weight.grad is not None
        velocity.mul_(MUON["momentum"]).add_(weight.grad)
        update = weight.grad + MUON["momentum"] * velocity
        weight.mul_(sqrt(len(weight)) / weight.norm())
        weight.sub_(lr * _orthogonal(update.flatten(1)).view_as(weight))


def _orthogonal(update: Tensor) -> Tensor:
    """Return a matrix with singular values near 1, by three steps of Newton and Schulz in bf16."""
    a, b, c = NEWTON_SCHULZ
    x = update.bfloat16()
    x = x / (x.norm() + 1e-7)
    if len(x) > x.shape[1]:
        return _orthogonal(update.mT).mT
    for _ in range(3):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.to(update.dtype)
