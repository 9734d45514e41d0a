"""Dropout that draws its mask four units at a time.

On the CPU PyTorch draws the mask of ``nn.Dropout`` unit by unit in one thread, which can take as
long as the matrix product of the layer before it. Here one 64-bit random number decides about four
units.

Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
https://jmlr.org/papers/v15/srivastava14a.html.
"""

from math import ceil

import torch
from torch import Tensor, nn

LEVELS = 2**16  # number of values of the 16 bits that decide about one unit
UNITS = 4  # number of units that one 64-bit number decides about


class Dropout(nn.Dropout):
    """``nn.Dropout`` that draws its random numbers differently on the CPU, unless it is compiled.

    Training zeroes each unit with probability ``p``, rounded to a multiple of 1/65,536, and divides
    the others by the probability of being kept. Evaluation returns the input. The input may have
    any shape and floating-point dtype. On the CPU the result is a copy, also with ``inplace=True``.

    Args:
        p: probability of zeroing a unit, in [0, 1].

    Raises:
        ValueError: ``p`` is out of range.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zero random units of ``input`` in training."""
        zeroed = round(LEVELS * self.p)
        by_hand = self.training and input.device.type == "cpu" and zeroed not in (0, LEVELS)
        if not by_hand or torch.compiler.is_compiling():
            return super().forward(input)
        numbers = torch.empty(ceil(input.numel() / UNITS), dtype=torch.int64)
        numbers.random_(-(2**63), None)  # all 64 bits
        bits = numbers.view(torch.int16)[: input.numel()].view(input.shape)
        kept = bits >= zeroed - LEVELS // 2  # int16 begins at -LEVELS / 2
        return input * kept.to(input.dtype).mul_(LEVELS / (LEVELS - zeroed))
