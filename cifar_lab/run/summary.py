"""The result of a run: ``summary.json``, and the table that is printed at the end.

Accuracies are fractions. With a validation split the best point is selected on it, and its
checkpoint is tested once. With the report's protocol (``val_size=0``) nothing is selected: the
best and the last point of the test curve are both given.
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pytorch_lightning
import torch
from pytorch_lightning import Trainer

import cifar_lab
from cifar_lab.data.datamodule import CIFAR10DataModule
from cifar_lab.devices import device_name
from cifar_lab.errors import UserError
from cifar_lab.files import read_json, write_json

Point = dict[str, float]
POINT_NAMES = {
    "best": "best point",
    "last": "last point",
    "of_best_checkpoint": "of the best checkpoint",
}


@dataclass(frozen=True)
class Summary:
    """The result of a run; its fields are the keys of ``summary.json``."""

    model: str
    recipe: str  # name of the recipe that the settings started from
    accuracy: dict[str, dict[str, float]]  # points by split; see accuracies()
    # The report's figure, if the settings and the images are those of its system.
    report_accuracy: float | None
    steps: int  # number of optimizer steps
    # Wall time of the training steps (train), of these with evaluations and checkpoints (fit), and
    # in total (total). The time that a resumed run lost after its last checkpoint is not counted.
    # Only for the last process: the time for TensorBoard's files (dashboard) and for checkpoints.
    seconds: dict[str, float]
    images_per_second: float  # training speed, without the time of evaluations
    data: dict[str, Any]  # source, location, fingerprint and sizes of the splits
    seed: int
    device: dict[str, Any]  # name of the hardware, precision, number of processes
    versions: dict[str, str]  # of Python and of the packages
    command: str  # command or Python call that started the run
    settings: dict[str, Any]  # all settings, as config.yaml holds them
    # Fields of Calibration, of the best checkpoint; None where none was selected and tested.
    calibration: dict[str, float] | None = None

    def write(self, path: Path) -> None:
        """Write the JSON file atomically."""
        write_json(path, asdict(self))

    def table(self) -> str:
        """Return the accuracies as lines of text."""
        rows = [
            (f"{split} accuracy, {POINT_NAMES[which]}", value, points[f"{which}_step"])
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


NUMBER = (int, float)
TYPES: dict[str, Any] = {  # of the values of summary.json
    **dict.fromkeys(("model", "recipe", "command"), str),
    **dict.fromkeys(("accuracy", "seconds", "data", "device", "versions"), dict),
    **dict.fromkeys(("steps", "seed"), int),
    "images_per_second": NUMBER,
    "report_accuracy": (*NUMBER, NoneType),
}


def read_summary(path: Path) -> dict[str, Any]:
    """Return the content of a ``summary.json``, checked."""
    found = read_json(path, TYPES)
    numbers = [*found["accuracy"].values(), found["seconds"]]
    texts = {"data": ("source", "location", "fingerprint"), "device": ("name", "precision")}
    right = all(
        isinstance(part, dict) and all(isinstance(value, NUMBER) for value in part.values())
        for part in numbers
    ) and all(isinstance(found[part].get(name), str) for part in texts for name in texts[part])
    if not right:
        raise UserError(f"{path}: damaged (accuracy, seconds, data or device)")
    return found


def accuracies(split: str, best: Point, last: Point, tested: float | None) -> dict[str, Any]:
    """Return the ``accuracy`` of a summary.

    ``split`` was evaluated during training, with a best and a last point. If a checkpoint was
    selected on it, ``tested`` is its test accuracy.
    """
    found: dict[str, Any] = {split: {}}
    for which, point in (("best", best), ("last", last)):
        found[split] |= {which: point["accuracy"], f"{which}_step": point["step"]}
    if tested is not None:
        found["test"] = {"of_best_checkpoint": tested, "of_best_checkpoint_step": best["step"]}
    return found


def accuracy_on_test(accuracy: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the test accuracy: of the best checkpoint or, if none was selected, the last point.

    It is None for a run that was not tested.
    """
    test = accuracy.get("test", {})
    return test.get("of_best_checkpoint", test.get("last"))


def hardware(summary: Mapping[str, Any]) -> str:
    """Return the hardware and the precision of a run."""
    return f"{summary['device']['name']}, {summary['device']['precision']}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that determine a run's numbers."""
    return {
        "cifar_lab": cifar_lab.__version__,
        "torch": torch.__version__,
        "pytorch_lightning": pytorch_lightning.__version__,
        "python": platform.python_version(),
    }


def describe_data(data: CIFAR10DataModule) -> dict[str, Any]:
    """Return where the images came from, their fingerprint, and the sizes of the splits."""
    images = data.image_set
    return {
        "source": images.source,
        "location": images.location,
        "fingerprint": images.fingerprint,
        "classes": len(images.class_names),
        "images": data.sizes,
    }


def describe_device(trainer: Trainer) -> dict[str, Any]:
    """Return the name of the hardware, the precision, and the number of processes."""
    return {
        "name": device_name(trainer.strategy.root_device),
        "precision": str(trainer.precision),
        "processes": trainer.world_size,
    }


def clock(seconds: float) -> str:
    """Return seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
