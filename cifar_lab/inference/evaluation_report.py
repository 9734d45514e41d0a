"""An evaluation as a table for people, as JSON for programs, and as a figure."""

import io
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar_lab.dashboards.figures import confusion_figure
from cifar_lab.errors import UserError
from cifar_lab.files import write_atomically
from cifar_lab.inference.evaluation import (
    CALIBRATION_BINS,
    Calibrated,
    ClassResult,
    Evaluation,
)
from cifar_lab.inference.known_data import KnownSplit
from cifar_lab.models import REGISTRY
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.recipes.own_model import name_of
from cifar_lab.run.checkpoint import CHECKPOINTS, WEIGHTS


@dataclass(frozen=True)
class Report:
    """An evaluation and what was evaluated."""

    checkpoint: Path  # or the name of a pretrained model
    model: ImageClassifier
    split: str  # "test", "val" or "train"
    tta: str  # test-time augmentation, or "none"
    evaluation: Evaluation
    known: KnownSplit
    figure: Path | None  # of the confusion matrix; None if it could not be written
    seconds: float  # duration of the evaluation, without reading the checkpoint and the data

    @property
    def model_name(self) -> str:
        """The name of the model in the registry, or ``module:Class`` of a user's own model."""
        return model_name(self.model)

    def as_json(self) -> str:
        """Return everything as JSON, with rates as fractions; an undefined rate is null."""
        result, data = self.evaluation, self.known.image_set
        content: dict[str, Any] = {
            "checkpoint": str(self.checkpoint),
            "model": self.model_name,
            "split": self.split,
            "images": result.images,
            "tta": self.tta,
            "accuracy": result.accuracy,
            "loss": result.loss,
            "calibration_error": result.calibration_error,
            "calibration_bins": CALIBRATION_BINS,
            "calibrated": asdict(result.calibrated) if result.calibrated else None,
            "classes": [asdict(row) for row in result.classes(data.class_names)],
            "confusion": result.confusion.tolist(),
            "figure": str(self.figure) if self.figure else None,
            "seconds": self.seconds,
            "data": {n: getattr(data, n) for n in ("source", "location", "fingerprint")},
            "device": str(self.model.device),
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def as_text(self) -> str:
        """Return a table for people."""
        result, data = self.evaluation, self.known.image_set
        tta = "" if self.tta == "none" else f", mean of views: {self.tta}"
        counted = f"{result.correct:,} of {result.images:,} images"
        expected = f"expected, {CALIBRATION_BINS} bins"
        lines = [
            f"checkpoint  {self.checkpoint} ({self.model_name})",
            f"data        {data.description}; {self.split} split{tta}\n",
            f"  accuracy           {_percent(result.accuracy)}   {counted}",
            f"  calibration error  {_percent(result.calibration_error)}   {expected}",
            *_calibrated(result.calibrated),
            f"  loss               {result.loss:8.4f}\n",
            *_class_table(result.classes(data.class_names)),
        ]
        return "\n".join(lines + ([f"\nconfusion matrix: {self.figure}"] if self.figure else []))


def model_name(model: ImageClassifier) -> str:
    """Return a model's name in the registry, or ``module:Class`` of a user's own model."""
    names = {kind: name for name, kind in REGISTRY.items()}
    return names.get(type(model)) or name_of(type(model))


def _calibrated(found: Calibrated | None) -> list[str]:
    """Return the lines of a calibration, none if there is none."""
    if found is None:
        return []
    error, below = _percent(found.calibration_error), _percent(found.below_threshold)
    threshold = f"{100 * found.threshold:.1f} %"
    return [
        f"  after temperature  {error}   logits divided by {found.temperature:.3f}",
        f"  like no class      {below}   highest probability then below {threshold}",
    ]


def _class_table(rows: list[ClassResult]) -> list[str]:
    width = max(len("class"), *(len(row.name) for row in rows))
    head = f"  {'class':<{width}}  {'images':>7}  {'correct':>7}  {'accuracy':>8}  {'precision':>9}"
    return [head] + [
        f"  {row.name:<{width}}  {row.images:>7,}  {row.correct:>7,}  {_percent(row.accuracy)}"
        f"  {_percent(row.precision):>9}"
        for row in rows
    ]


def _percent(rate: float | None) -> str:
    """Return a rate in eight columns."""
    return "–".rjust(8) if rate is None else f"{100 * rate:6.2f} %"


def figure_name(
    checkpoint: Path, model: ImageClassifier, known: KnownSplit, split: str, tta: str
) -> str:
    """Return the file name of an evaluation's figure, which no other evaluation uses.

    It is ``confusion_<split>.png`` for the default checkpoint of a run folder, without test-time
    augmentation, on the training data. The name includes anything else, also exported weights.
    """
    there = [name for name in CHECKPOINTS if checkpoint.with_name(name).is_file()]
    is_other = checkpoint.suffix == WEIGHTS or (bool(there) and checkpoint.name != there[0])
    trained_on, images = model.data.get("fingerprint"), known.image_set.fingerprint
    parts = [
        split,
        tta if tta != "none" else "",
        checkpoint.stem if is_other else "",
        images if trained_on not in (None, images) else "",
    ]
    return "_".join(["confusion", *filter(None, parts)]) + ".png"


def write_figure(evaluation: Evaluation, class_names: tuple[str, ...], path: Path) -> None:
    """Draw the confusion matrix into a PNG file, which is written completely or not at all.

    Raises:
        UserError: The file cannot be written.
    """
    figure = confusion_figure(evaluation.confusion, class_names)
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        # Letters of a class name that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(drawn, format="png", dpi=150)
    try:
        write_atomically(path, drawn.getbuffer())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
