"""A training step as one CUDA graph: a small network keeps a GPU busy only in this way.

A step of such a network is some hundred kernels of a few microseconds each, and Python takes longer
to launch them one by one than the GPU to run them. A graph is captured once and launched whole.

Source: "Accelerating PyTorch with CUDA Graphs"
(https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

WARM_UP = 3  # steps before the capture, in which libraries and optimizer make what they keep

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class StepGraph:
    """Runs a training step some times, captures it, and from then on replays the graph.

    Args:
        step: takes a batch, computes gradients and lets the optimizer use them; gives two tensors
            without gradient. It must wait for nothing, and do the same with every batch.
        optimizer: that the step uses. Its rates may change from step to step, and nothing else.
    """

    def __init__(self, step: Step, optimizer: Optimizer) -> None:
        self._step, self._optimizer = step, optimizer
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream()
        self._warm = 0

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Takes a step; what it gives is overwritten by the next one.

        Args:
            images: on the GPU; batches have one shape.
            labels: the same.
        """
        if self._warm < WARM_UP:
            self._warm += 1
            return self._on_the_side(images, labels)
        if self._graph is None:
            self._capture(images, labels)
        assert self._graph is not None
        for kept, given in zip(self._inputs, (images, labels), strict=True):
            kept.copy_(given)
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()
        return self._outputs

    def _on_the_side(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A step on the stream that captures later, as the capture must not wait for another."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._step(images, labels)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        self._inputs = images.clone(), labels.clone()
        groups = self._optimizer.param_groups
        # Of float32, as fused optimizers read them, whatever the default is.
        self._rates = [
            torch.tensor(group["lr"], dtype=torch.float32, device=images.device) for group in groups
        ]
        self._graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)  # gradients then belong to the graph
        # "thread_local": another thread, which pins memory say, may go on.
        capture = torch.cuda.graph(
            self._graph, stream=self._stream, capture_error_mode="thread_local"
        )
        with self._rates_as_tensors(), capture:
            self._outputs = self._step(*self._inputs)

    @contextmanager
    def _rates_as_tensors(self) -> Iterator[None]:
        """Lets the optimizer read its rates from the GPU, where later ones can be written."""
        groups = self._optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number
