"""A training step as one CUDA graph, without which a small network does not keep a GPU busy.

A step of such a network runs over a hundred kernels of a few microseconds each, and Python takes
longer to launch them one by one than the GPU to run them. A graph is captured once and launched
as a whole.

Source: "Accelerating PyTorch with CUDA Graphs"
(https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

WARM_UP = 3  # steps before the capture, in which libraries and the optimizer allocate their state

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class StepGraph:
    """Run a training step a few times, then capture it and replay the graph from then on.

    Args:
        step: function of images and labels that computes gradients, runs the optimizer, and
            returns two tensors without gradient. It must not wait for the device, and must do the
            same for every batch.
        optimizer: optimizer that the step uses. Only its learning rates may change between steps.
    """

    def __init__(self, step: Step, optimizer: Optimizer) -> None:
        self._step, self._optimizer = step, optimizer
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream()
        self._warm = 0

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Take a step, and return tensors that the next step overwrites.

        Images and labels are on the GPU and have the same shapes in every call.
        """
        if self._warm < WARM_UP:
            self._warm += 1
            return self._warm_up(images, labels)
        if self._graph is None:
            self._graph = self._capture(images, labels)
        for kept, given in zip(self._inputs, (images, labels), strict=True):
            kept.copy_(given)
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()
        return self._outputs

    def _warm_up(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Take a step on the stream of the later capture."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._step(images, labels)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _capture(self, images: Tensor, labels: Tensor) -> torch.cuda.CUDAGraph:
        self._inputs = images.clone(), labels.clone()
        groups = self._optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        # float32, as fused optimizers read them, whatever the default dtype is.
        self._rates = [
            torch.tensor(lr, dtype=torch.float32, device=images.device) for lr in numbers
        ]
        graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)  # the capture allocates its own gradients
        # "thread_local" lets other threads use CUDA, such as one that pins memory.
        capture = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
        # The optimizer reads its rates from the GPU, so that later rates can be written there.
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            with capture:
                self._outputs = self._step(*self._inputs)
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number
        return graph

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Make copies and pickles None, since a graph cannot be copied."""
        return type(None), ()
