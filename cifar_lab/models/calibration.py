"""The calibration of a trained model, so that its probabilities match how often it is right.

Temperature scaling divides all logits by one number, which changes no predicted class.
Source: "On Calibration of Modern Neural Networks" (https://arxiv.org/abs/1706.04599), section 4.2.

The same validation images give a threshold: an image whose highest probability is lower than that
of nearly all of them is unlike the training images. Source of this measure: "A Baseline
for Detecting Misclassified and Out-of-Distribution Examples" (https://arxiv.org/abs/1610.02136).
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FALSE_ALARMS = 0.05  # share of the validation images that lie below the threshold
# Limits of the logarithm of the temperature; a model that is always right has no optimal one.
BOUNDS = (-3.0, 3.0)


@dataclass(frozen=True)
class Calibration:
    """A temperature and a threshold, computed from the logits of the validation split.

    Args:
        temperature: number that divides the logits before the softmax; above 0.
        threshold: number from 0 to 1; an image with a lower highest probability is unlike all
            classes.

    Raises:
        ValueError: A value is out of its range.
    """

    temperature: float
    threshold: float

    def __post_init__(self) -> None:
        values = asdict(self)
        right = all(isinstance(value, float) and math.isfinite(value) for value in values.values())
        if not right or self.temperature <= 0 or not 0 <= self.threshold <= 1:
            raise ValueError(f"calibration {values}: expected numbers above 0 and from 0 to 1")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class probabilities (N, C) of logits (N, C)."""
        return (logits / self.temperature).softmax(1)

    def unlike(self, probabilities: Tensor) -> Tensor:
        """Return for each row of probabilities (N, C) whether it is unlike all classes, bool."""
        return probabilities.amax(1) < self.threshold


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Fit the calibration to validation logits, float32 (N, C), and labels, int64 (N,).

    The temperature, between e⁻³ and e³, minimizes the cross entropy.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    logits = logits.double()

    def loss(logarithm: float) -> float:
        return F.cross_entropy(logits / math.exp(logarithm), labels).item()

    temperature = math.exp(minimize_scalar(loss, bounds=BOUNDS, method="bounded").x)
    highest = (logits / temperature).softmax(1).amax(1)
    return Calibration(temperature, torch.quantile(highest, FALSE_ALARMS).item())
