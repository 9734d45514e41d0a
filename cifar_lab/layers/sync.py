"""Sums over the ranks of a distributed run, which autograd can differentiate.

Synchronised batch normalization needs nothing else: its statistics and the sums of its backward
pass run over the batch, so a sum over the ranks makes them those of the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class AllReduceSum(torch.autograd.Function):
    """The sum of a tensor over all ranks; every rank gets it, every rank must call it.

    Each rank's input reaches every rank's output, so the gradient of an input is the sum of the
    gradients of all outputs: the backward pass is the same operation.
    """

    @staticmethod
    def forward(tensor: Tensor) -> Tensor:
        """Sum over the ranks; ``tensor`` itself stays as it is."""
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep nothing: the sum is linear."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        """Sum the gradients over the ranks, differentiably."""
        return AllReduceSum.apply(grad_outputs[0])


def several_ranks(sync: bool) -> bool:
    """Whether there is anything to synchronise: a module made for several devices runs on one."""
    return sync and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_ranks(*sums: Tensor) -> tuple[Tensor, ...]:
    """Each of ``sums`` summed over the ranks, in one message."""
    packed = AllReduceSum.apply(torch.cat([part.reshape(-1) for part in sums]))
    parts = packed.split([part.numel() for part in sums])
    return tuple(part.view(like.shape) for part, like in zip(parts, sums, strict=True))
