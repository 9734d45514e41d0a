"""An evaluation as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar_lab.inference.evaluation import CALIBRATION_BINS, ClassResult, Evaluation
from cifar_lab.inference.known_data import KnownSplit
from cifar_lab.models import REGISTRY
from cifar_lab.models.classifier import ImageClassifier


@dataclass(frozen=True)
class Report:
    """What was evaluated, and what came out.

    Attributes:
        checkpoint: its file.
        model: that it holds.
        split: "test", "val" or "train".
        tta: test-time augmentation; "none" for none.
        evaluation: the result.
        known: the images.
        figure: file of the confusion matrix; None where it could not be written.
        seconds: of the evaluation, without reading the checkpoint and the data.
    """

    checkpoint: Path
    model: ImageClassifier
    split: str
    tta: str
    evaluation: Evaluation
    known: KnownSplit
    figure: Path | None
    seconds: float

    @property
    def model_name(self) -> str:
        """The model's name in the registry."""
        return next(name for name, kind in REGISTRY.items() if kind is type(self.model))

    def as_json(self) -> str:
        """Everything, with rates as fractions; a rate that is undefined is null."""
        return json.dumps(self._content(), indent=2, allow_nan=False)

    def _content(self) -> dict[str, Any]:
        result, data = self.evaluation, self.known.image_set
        return {
            "checkpoint": str(self.checkpoint),
            "model": self.model_name,
            "split": self.split,
            "images": result.images,
            "tta": self.tta,
            "accuracy": result.accuracy,
            "loss": result.loss,
            "calibration_error": result.calibration_error,
            "calibration_bins": CALIBRATION_BINS,
            "classes": [asdict(row) for row in result.classes(data.class_names)],
            "confusion": result.confusion.tolist(),
            "figure": str(self.figure) if self.figure else None,
            "seconds": self.seconds,
            "data": {
                "source": data.source,
                "location": data.location,
                "fingerprint": data.fingerprint,
            },
            "device": str(self.model.device),
        }

    def as_text(self) -> str:
        """A table for people."""
        result, data = self.evaluation, self.known.image_set
        tta = "" if self.tta == "none" else f", mean of views: {self.tta}"
        counted = f"{result.correct:,} of {result.images:,} images"
        return "\n".join(
            [
                f"checkpoint  {self.checkpoint} ({self.model_name})",
                f"data        {data.description}; {self.split} split{tta}",
                "",
                f"  accuracy           {_percent(result.accuracy)}   {counted}",
                f"  calibration error  {_percent(result.calibration_error)}   "
                f"expected, {CALIBRATION_BINS} bins",
                f"  loss               {result.loss:8.4f}",
                "",
                *_class_table(result.classes(data.class_names)),
                *(["", f"confusion matrix: {self.figure}"] if self.figure else []),
            ]
        )


def _class_table(rows: list[ClassResult]) -> list[str]:
    width = max(len("class"), *(len(row.name) for row in rows))
    head = f"  {'class':<{width}}  {'images':>7}  {'correct':>7}  {'accuracy':>8}  {'precision':>9}"
    return [head] + [
        f"  {row.name:<{width}}  {row.images:>7,}  {row.correct:>7,}  {_percent(row.accuracy)}"
        f"  {_percent(row.precision):>9}"
        for row in rows
    ]


def _percent(rate: float | None) -> str:
    """A rate in eight columns."""
    return "–".rjust(8) if rate is None else f"{100 * rate:6.2f} %"
