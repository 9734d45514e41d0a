"""The evaluation of several sets of images, such as the corruptions of CIFAR-10-C, as a table."""

import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tqdm import tqdm

from cifar_lab.data.image_set import describe
from cifar_lab.inference.arrays import ArraySet
from cifar_lab.inference.evaluation import CALIBRATION_BINS, evaluate_logits
from cifar_lab.inference.logits import split_logits
from cifar_lab.models.classifier import ImageClassifier

# Corruptions that CIFAR-10-C provides for validation: the benchmark's means are over the other 15.
# Source: "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
# (https://arxiv.org/abs/1903.12261).
EXTRA = {"gaussian_blur", "saturate", "spatter", "speckle_noise"}
MEASURES = ("accuracy", "loss", "calibration_error")


def evaluate_sets(
    model: ImageClassifier, sets: Sequence[ArraySet], batch_size: int, tta: str
) -> dict[str, Any]:
    """Evaluate sets, with one at a time in memory; return plain values for JSON.

    Rates are fractions. The means over all sets exclude ``EXTRA``, unless there are no others.
    """
    start = time.perf_counter()
    rows = []
    for one in tqdm(sets, "sets", leave=False, disable=None):  # None: on terminals only
        known = one.known(model)
        result = evaluate_logits(*split_logits(model, known, batch_size, tta))
        row = {"name": one.name, "severity": one.severity or None, "images": result.images}
        rows.append(row | {measure: getattr(result, measure) for measure in MEASURES})
    in_means = [row for row in rows if row["name"] not in EXTRA] or rows
    return {
        "split": "test",
        "images": sum(row["images"] for row in rows),
        "tta": tta,
        **{measure: fmean(row[measure] for row in in_means) for measure in MEASURES},
        "calibration_bins": CALIBRATION_BINS,
        "in_means": list(dict.fromkeys(row["name"] for row in in_means)),
        "sets": rows,
        "class_names": known.image_set.class_names,
        "seconds": time.perf_counter() - start,
        "data": {"source": "arrays", "location": str(sets[0].path.parent)},
        "device": str(model.device),
    }


def table(found: dict[str, Any]) -> str:
    """Return the accuracies as a table, with a row for each name and a column for each severity."""
    rows, in_means = found["sets"], found["in_means"]
    names = list(dict.fromkeys(row["name"] for row in rows))
    severities = sorted({row["severity"] for row in rows if row["severity"]})

    def cells(names: Sequence[str]) -> list[str]:
        """Return the mean accuracies of the named sets at each severity, and over all."""
        chosen = [row for row in rows if row["name"] in names]
        parts = [[row for row in chosen if row["severity"] == n] for n in severities]
        return [_mean(part) for part in (*parts, chosen)]

    lines = {"severity" if severities else "": [*map(str, severities), "mean"]}
    lines |= {name if name in in_means else f"{name} *": cells([name]) for name in names}
    lines["mean"] = cells(in_means)
    width = max(map(len, lines))
    text = [f"  {n:<{width}}" + "".join(f"{c:>10}" for c in line) for n, line in lines.items()]
    tta = "" if found["tta"] == "none" else f"; mean of views: {found['tta']}"
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(found["class_names"]))
    head = [f"checkpoint  {found['checkpoint']} ({found['model']})"]
    head += [f"data        {describe(**found['data'])}{tta}", f"classes     {classes}", ""]
    note = ["", "* for validation in CIFAR-10-C: not in the means"] if "*" in "".join(lines) else []
    return "\n".join(head + text + note)


def _mean(rows: Sequence[dict[str, Any]]) -> str:
    return f"{100 * fmean(row['accuracy'] for row in rows):.2f} %" if rows else "–"
