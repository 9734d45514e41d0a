"""What came out of a run: ``summary.json``, and the table that a person sees at the end.

Accuracies are fractions. With a validation split the best point is selected on it, and its
checkpoint is tested once. With the report's protocol (``val_size=0``) nothing is selected: best and
last point of the test curve are both given, and named as such.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pytorch_lightning
import torch
from pytorch_lightning import Trainer

import cifar_lab
from cifar_lab.atomic import write_json
from cifar_lab.dashboards.progress import clock
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.errors import UserError
from cifar_lab.files import read_json
from cifar_lab.training.checkpoints import Point


@dataclass(frozen=True)
class Summary:
    """The result of a run; its fields are the keys of ``summary.json``.

    Attributes:
        model: name in the registry.
        recipe: that the settings started from.
        accuracy: split to points; see ``accuracies``.
        report_accuracy: the report's figure for the recipe, or None.
        steps: optimizer steps done.
        seconds: of wall time, for the training steps alone (``train``), with evaluations and
            checkpoints (``fit``) and in all (``total``); of a run that went on, the time behind its
            last checkpoint is left out. By the last process, for what TensorBoard shows
            (``dashboard``) and for ``checkpoints``.
        images_per_second: trained on, evaluations not counted in the time.
        data: source, location, fingerprint and sizes of the splits.
        seed: of the run.
        device: what computed, with the precision.
        versions: of what it ran on.
        command: that started it.
    """

    model: str
    recipe: str
    accuracy: dict[str, dict[str, float]]
    report_accuracy: float | None
    steps: int
    seconds: dict[str, float]
    images_per_second: float
    data: dict[str, Any]
    seed: int
    device: dict[str, Any]
    versions: dict[str, str]
    command: str

    def write(self, path: Path) -> None:
        """Writes the JSON file, whole or not at all."""
        write_json(path, asdict(self))

    def table(self) -> str:
        """The accuracies as lines for people."""
        rows = [
            (f"{split} accuracy, {NAMES[which]}", value, points[f"{which}_step"])
            for split, points in self.accuracy.items()
            for which, value in points.items()
            if not which.endswith("_step")
        ]
        lines = [f"  {name:<40}{100 * value:6.2f} %   step {step:,}" for name, value, step in rows]
        if self.report_accuracy is not None:
            name = "report, best point of its test curve"
            lines.append(f"  {name:<40}{100 * self.report_accuracy:6.2f} %   recipe {self.recipe}")
        if "val" not in self.accuracy:
            lines.append("  (report's protocol: the best point is read off the test curve itself)")
        total, speed = clock(self.seconds["total"]), f"{self.images_per_second:,.0f} images/s"
        return "\n".join([*lines, f"  {self.steps:,} steps in {total}, {speed}"])


KINDS: dict[str, type | tuple[type, ...]] = {  # of the values of summary.json
    "model": str,
    "recipe": str,
    "accuracy": dict,
    "report_accuracy": (float, int, NoneType),
    "steps": int,
    "seconds": dict,
    "images_per_second": (float, int),
    "data": dict,
    "seed": int,
    "device": dict,
    "versions": dict,
    "command": str,
}


def read_summary(path: Path) -> dict[str, Any]:
    """The content of a ``summary.json``.

    Raises:
        UserError: it cannot be read, or is none.
    """
    found = read_json(path, KINDS)
    numbers = [*found["accuracy"].values(), found["seconds"]]
    texts = {"data": ("source", "location", "fingerprint"), "device": ("name", "precision")}
    right = all(
        isinstance(part, dict) and all(isinstance(value, int | float) for value in part.values())
        for part in numbers
    ) and all(isinstance(found[part].get(name), str) for part in texts for name in texts[part])
    if not right:
        raise UserError(f"{path}: damaged (accuracy, seconds, data or device)")
    return found


NAMES = {
    "best": "best point",
    "last": "last point",
    "of_best_checkpoint": "of the best checkpoint",
}


def accuracies(split: str, best: Point, last: Point, tested: float | None) -> dict[str, Any]:
    """The ``accuracy`` of a summary.

    Args:
        split: that was evaluated during training, "val" or "test".
        best: its point of highest accuracy.
        last: its last point.
        tested: test accuracy of the best checkpoint, where one was selected.
    """
    points = {
        "best": best["accuracy"],
        "best_step": best["step"],
        "last": last["accuracy"],
        "last_step": last["step"],
    }
    found: dict[str, Any] = {split: points}
    if tested is not None:
        found["test"] = {"of_best_checkpoint": tested, "of_best_checkpoint_step": best["step"]}
    return found


def versions() -> dict[str, str]:
    """Versions of what a run depends on."""
    return {
        "cifar_lab": cifar_lab.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": pytorch_lightning.__version__,
        "python": platform.python_version(),
    }


def describe_data(data: CIFAR10DataModule) -> dict[str, Any]:
    """Where the images came from, what they are, and how they were split."""
    images = data.image_set
    return {
        "source": images.source,
        "location": images.location,
        "fingerprint": images.fingerprint,
        "classes": len(images.class_names),
        "images": data.sizes,
    }


def describe_device(trainer: Trainer) -> dict[str, Any]:
    """What computes: the device's name, the precision, the number of processes."""
    return {
        "name": device_name(trainer.strategy.root_device),
        "precision": str(trainer.precision),
        "processes": trainer.world_size,
    }


def device_name(device: torch.device) -> str:
    """The name of the hardware, with its threads where it is a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{_cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"
    return device.type


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
