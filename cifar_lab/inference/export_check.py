"""The difference between an exported file and its model, on the same random images."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.inference.logits import whole_float32
from cifar_lab.models.classifier import ImageClassifier

# A function from uint8 images (B, 3, 32, 32) to float32 logits (B, num_classes).
Predict = Callable[[Tensor], Tensor]

# A share of the largest logit. Float32 sums in a different order differ by about 1e-6 of it.
TOLERANCE = 1e-4
HALF = 1e-2  # tolerance for weights rounded to float16, which keeps 11 bits


@dataclass(frozen=True)
class Difference:
    """The largest difference over all images and classes."""

    absolute: float  # of two logits; NaN if one is not finite
    relative: float  # the same as a share of the model's largest logit
    allowed: float = TOLERANCE  # the largest relative difference

    @property
    def tolerable(self) -> bool:
        """Whether rounding alone may explain the difference."""
        return self.relative <= self.allowed

    def __str__(self) -> str:
        return (
            f"largest difference {self.absolute:.1e}, {self.relative:.1e} of the largest logit "
            f"(allowed: {self.allowed:.0e})"
        )


def batch_sizes(largest: int) -> tuple[int, ...]:
    """Return the batch sizes that are compared: some small ones, and the largest."""
    return (*(size for size in (1, 2, 7) if size < largest), largest)


@torch.no_grad()
def difference(
    model: ImageClassifier, run: Predict, largest_batch: int = 64, allowed: float = TOLERANCE
) -> Difference:
    """Compare logits on random uint8 images, in batches of ``batch_sizes(largest_batch)``.

    The model is in ``eval`` mode, on any device. ``run`` runs the exported file, on the CPU.
    """
    rng = torch.Generator().manual_seed(0)
    apart, sizes = [], []
    for size in batch_sizes(largest_batch):
        images = torch.randint(256, (size, *IMAGE_SHAPE), generator=rng, dtype=torch.uint8)
        with whole_float32():
            expected = model(images.to(model.device)).cpu()
        logits = run(images)
        if logits.shape != expected.shape or logits.dtype != expected.dtype:
            return Difference(inf, inf, allowed)
        apart.append((logits - expected).abs().max())
        sizes.append(expected.abs().max())
    largest, scale = (torch.stack(found).max().item() for found in (apart, sizes))  # keeps NaN
    return Difference(largest, largest / scale if scale else largest, allowed)


def run_onnx(path: Path) -> Predict:
    """Load an ONNX file into onnxruntime, on the CPU."""
    import onnxruntime  # type: ignore[import-untyped]  # it has no stubs

    options = onnxruntime.SessionOptions()
    # Without a number, onnxruntime pins threads to cores, which containers refuse.
    options.intra_op_num_threads = torch.get_num_threads()
    content = path.read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        return torch.from_numpy(logits)

    return run
