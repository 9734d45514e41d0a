"""An ablation: what each part of a fast recipe contributes, by training without it.

Accuracies are those of the validation split at the last step; the test set decides nothing. A
difference is formed seed by seed, so that what a seed does to both cancels; its interval is
Student's, over the seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cifar_lab.data.image_set import describe
from cifar_lab.experiments.tables import hardware_of, markdown_table, mean_and_deviation, paired
from cifar_lab.plan import Plan
from cifar_lab.run.run import Run

BASE = "the recipe"
Settings = dict[str, Any]
EVALUATED_AT_THE_END: Settings = {"eval_every": 100_000}


@dataclass(frozen=True)
class Ablation:
    """The variants of a recipe: the settings that leave out or change each part."""

    shortened: Settings  # of all runs, unless full-length ones are wanted
    variants: dict[str, Settings]


MUON: Settings = {"optimizer": "muon", "lr": 0.06, "head_lr": 0.3, "weight_decay": 0}
AUGMENTATIONS: dict[str, Settings] = {
    "flips drawn anew each epoch": {"augment": ["flip", "crop"]},
    "no flips": {"augment": ["crop"]},
    "no shifts": {"augment": ["alternating_flip"]},
    "squares covered too": {"augment": ["alternating_flip", "crop", "cutout"]},
}
ABLATIONS = {
    # A seventh of the parameters, an eighth of the training images, and all epochs: each image is
    # seen as often as in the full recipe, so that the model overfits here too.
    "fast_cnn": Ablation(
        {"widths": [24, 96, 96], "val_size": 43750, "batch_size": 250, "lr": 0.1, "head_lr": 0.02}
        | EVALUATED_AT_THE_END,
        {
            "first layer trained, not whitening": {"whitening": False},
            **AUGMENTATIONS,
            "no weight decay": {"weight_decay": 0},
            "no label smoothing": {"label_smoothing": 0},
            "SGD instead of Muon": {"optimizer": "sgd", "lr": 0.5},
            "32 pixels from the start": {"small_share": 0},
            "small images for four fifths, two more epochs": {"small_share": 0.8, "max_epochs": 13},
            "biases at a tenth of their rate": {"bias_lr": 0.5},
        },
    ),
    "fast_mlp": Ablation(
        {"width": 256, "val_size": 44380, "batch_size": 250} | EVALUATED_AT_THE_END,
        {
            "pixels, not principal components": {"components": 0},
            **AUGMENTATIONS,
            "no label smoothing": {"label_smoothing": 0},
            "no weight decay": {"weight_decay": 0},
            "dropout": {"dropout": 0.2},
            "no warm-up": {"warmup": 0},
            "no blocks": {"blocks": 0},
            "GELU, not products": {"bilinear": False, "expansion": 3},  # of as many parameters
            "Muon instead of AdamW": MUON,
        },
    ),
}


def plans(model: str, chosen: Sequence[str], whole: bool = False) -> dict[str, Plan]:
    """Return the plan of the recipe, and those of the variants with the chosen names."""
    ablation = ABLATIONS[model]
    common = EVALUATED_AT_THE_END if whole else ablation.shortened
    common = {**common, "dashboard": "off", "progress": "none"}
    variants = {BASE: {}, **{name: ablation.variants[name] for name in chosen}}
    return {name: Plan.of(model, **{**common, **changed}) for name, changed in variants.items()}


def gather(model: str, whole: bool, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Return the results of an ablation, in plain values.

    The runs of the recipe and of each variant have the same seeds, at least two. A row has the
    accuracy and the seconds for each seed, the difference in accuracy from the recipe, and half the
    width of its 95 % interval.
    """
    ablation, data = ABLATIONS[model], runs[BASE][0].summary["data"]
    base = _accuracies(runs[BASE])
    rows = []
    for name, found in runs.items():
        difference, interval = paired(_accuracies(found), base)
        row = {
            "variant": name,
            "flags": as_flags(ablation.variants.get(name, {})),
            "accuracies": _accuracies(found),
            "seconds": [run.summary["seconds"]["train"] for run in found],
            "difference": difference,
            "interval": interval,
        }
        rows.append(row)
    return {
        "model": model,
        "shortened": "" if whole else as_flags(ablation.shortened),
        "seeds": [run.summary["seed"] for run in runs[BASE]],
        "data": f"{describe(data['source'], data['location'])}, fingerprint {data['fingerprint']}",
        "hardware": "; ".join(hardware_of([run for found in runs.values() for run in found])),
        "rows": rows,
    }


def _accuracies(runs: Sequence[Run]) -> list[float]:
    return [float(run.summary["accuracy"]["val"]["last"]) for run in runs]


def as_flags(settings: Mapping[str, Any]) -> str:
    """Return settings as command-line flags, such as "--whitening false --widths 24,96"."""
    words = []
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"--{name} {text.lower() if isinstance(value, bool) else text}")
    return " ".join(words)


def table(found: Mapping[str, Any]) -> str:
    """Return the rows in Markdown; a time is the median of the seeds' ratios to the recipe's."""
    base = found["rows"][0]["seconds"]
    rows = []
    for row in found["rows"]:
        difference = f"{100 * row['difference']:+.2f} ± {100 * row['interval']:.2f}"
        difference = difference if row["flags"] else "–"
        time = median(own / other for own, other in zip(row["seconds"], base, strict=True))
        accuracy = mean_and_deviation(row["accuracies"])
        cells = {"validation accuracy (%)": accuracy, "difference": difference}
        rows.append({"": row["variant"], **cells, "time": f"{time:.2f}"})
    return markdown_table(rows)
