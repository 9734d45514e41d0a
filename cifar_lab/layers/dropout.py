"""Dropout whose mask is drawn four units at a time.

On the CPU PyTorch draws the mask of ``nn.Dropout`` unit by unit in one thread, which can take as
long as the matrix product of the layer before it. Here a random number of 64 bits decides for four.
docs/performance.md says what that gains.

Source of dropout: "Dropout: A Simple Way to Prevent Neural Networks from Overfitting"
(https://jmlr.org/papers/v15/srivastava14a.html).
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

LEVELS = 2**16  # values of the bits that decide for one unit
UNITS = 4  # that one number of 64 bits decides for


class Dropout(nn.Dropout):
    """``nn.Dropout`` with another stream of random numbers on the CPU; elsewhere the same.

    In training each unit is zeroed with probability ``p``, rounded to a 65,536th, and the others
    are divided by the probability that they stay; in evaluation it is the identity. On the CPU it
    works on a copy, also with ``inplace=True``.

    Args:
        p: probability of a zero, in [0, 1].

    Raises:
        ValueError: ``p`` out of its range.

    Shape: any, to the same; floating point.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zeroes units of ``input``."""
        zeroed = round(LEVELS * self.p)
        if not self.training or input.device.type != "cpu" or zeroed in (0, LEVELS):
            return super().forward(input)
        numbers = torch.empty(ceil(input.numel() / UNITS), dtype=torch.int64)
        numbers.random_(-(2**63), None)  # all 64 bits
        bits = numbers.view(torch.int16)[: input.numel()].view(input.shape)
        stays = bits >= zeroed - LEVELS // 2  # int16 begins at -LEVELS / 2
        return input * stays.to(input.dtype).mul_(LEVELS / (LEVELS - zeroed))
