"""How far an exported file is from its model, both run on the same random images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isnan, nan
from pathlib import Path

import torch
from torch import Tensor

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.inference.exact import whole_float32
from cifar_lab.models.classifier import ImageClassifier

# uint8 images (B, 3, 32, 32) to float32 logits (B, num_classes)
Predict = Callable[[Tensor], Tensor]

SMALL_BATCHES = (1, 2, 7)
# Of the largest logit. float32 sums in another order differ by about 1e-6 of it.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Difference:
    """The largest over all images and classes.

    Attributes:
        absolute: difference of two logits.
        relative: the same as a share of the model's largest logit. NaN where a logit is not finite.
    """

    absolute: float
    relative: float

    @property
    def tolerable(self) -> bool:
        """Whether it may come from rounding alone."""
        return self.relative <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"largest difference {self.absolute:.1e}, {self.relative:.1e} of the largest logit "
            f"(allowed: {TOLERANCE:.0e})"
        )


def batch_sizes(largest: int) -> tuple[int, ...]:
    """The sizes of the batches that are compared: some small ones, and the largest."""
    return (*(size for size in SMALL_BATCHES if size < largest), largest)


@torch.no_grad()
def difference(
    model: ImageClassifier, run: Predict, largest_batch: int = 64, seed: int = 0
) -> Difference:
    """Compares on random uint8 images, in batches of ``batch_sizes(largest_batch)``.

    Args:
        model: in ``eval`` mode, on any device.
        run: the exported file, on the CPU.
        largest_batch: images.
        seed: of the images.
    """
    rng = torch.Generator().manual_seed(seed)
    largest = scale = 0.0
    for size in batch_sizes(largest_batch):
        images = torch.randint(256, (size, *IMAGE_SHAPE), generator=rng, dtype=torch.uint8)
        with whole_float32():
            expected = model(images.to(model.device)).cpu()
        logits = run(images)
        if logits.shape != expected.shape or logits.dtype != expected.dtype:
            return Difference(inf, inf)
        apart = (logits - expected).abs().max().item()
        if isnan(apart):  # max() of Python might lose it
            return Difference(nan, nan)
        largest = max(largest, apart)
        scale = max(scale, expected.abs().max().item())
    return Difference(largest, largest / scale if scale else largest)


def run_torch(path: Path) -> Predict:
    """A program saved by ``torch.export.save``, loaded again."""
    return torch.export.load(path).module()


def run_onnx(path: Path) -> Predict:
    """An ONNX file in onnxruntime, on the CPU."""
    import onnxruntime  # type: ignore[import-untyped]  # it has no stubs

    options = onnxruntime.SessionOptions()
    # A number of its own would make onnxruntime pin threads to cores, which containers refuse.
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        return torch.from_numpy(logits)

    return run
