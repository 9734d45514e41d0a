"""What each part of a fast recipe is worth: the recipe without it, with the same seeds.

Accuracies are those of the validation split at the last step; the test set decides nothing. A
difference is formed seed by seed, so that what a seed does to both cancels; its interval is
Student's, over the seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import mean, median, stdev
from typing import Any

from cifar_lab.data.image_set import describe
from cifar_lab.errors import UserError
from cifar_lab.parsing import FitPlan, parse_fit
from cifar_lab.report.results import hardware
from cifar_lab.report.runs import Run, find_or_train, images_of
from cifar_lab.report.table import line

BASE = "the recipe"
EVALUATED_AT_THE_END = "--eval_every 100000"
# The 0.975 quantile of Student's t for 1, 2, … degrees of freedom; from any table of it. For more,
# that of the last, which is too large by 4 % at most.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Study:
    """What is tried on a recipe.

    Attributes:
        shortened: flags that make a run short; of every run, with and without the part, unless
            whole runs are wanted.
        variants: name of what is left out or changed -> the flags that do it.
    """

    shortened: str
    variants: dict[str, str]


STUDIES = {
    # A seventh and an eighth of the parameters and of the training images, and all epochs: an image
    # is seen as often as in the whole recipe, so that much is learned by heart here too.
    "fast_cnn": Study(
        "--widths 24,96,96 --val_size 43750 --batch_size 250 --lr 0.1 --head_lr 0.02 "
        + EVALUATED_AT_THE_END,
        {
            "first layer trained, not whitening": "--whitening false",
            "flips drawn anew each epoch": "--augment flip,crop",
            "no flips": "--augment crop",
            "no shifts": "--augment alternating_flip",
            "squares covered too": "--augment alternating_flip,crop,cutout",
            "no weight decay": "--weight_decay 0",
            "no label smoothing": "--label_smoothing 0",
            "SGD instead of Muon": "--optimizer sgd --lr 0.5",
            "32 pixels from the start": "--small_share 0",
            "small images for four fifths, two more epochs": "--small_share 0.8 --max_epochs 13",
            "biases at a tenth of their rate": "--bias_lr 0.5",
        },
    ),
    "fast_mlp": Study(
        "--width 256 --val_size 44380 --batch_size 250 " + EVALUATED_AT_THE_END,
        {
            "pixels, not principal components": "--components 0",
            "flips drawn anew each epoch": "--augment flip,crop",
            "no flips": "--augment crop",
            "no shifts": "--augment alternating_flip",
            "squares covered too": "--augment alternating_flip,crop,cutout",
            "no label smoothing": "--label_smoothing 0",
            "no weight decay": "--weight_decay 0",
            "dropout": "--dropout 0.2",
            "no warm-up": "--warmup 0",
            "no blocks": "--blocks 0",
            "GELU, not products": "--bilinear false --expansion 3",  # of as many parameters
            "Muon instead of AdamW": ("--optimizer muon --lr 0.06 --head_lr 0.3 --weight_decay 0"),
        },
    ),
}


def run_study(
    model: str, seeds: list[int], chosen: list[str], flags: list[str], whole: bool = False
) -> dict[str, Any]:
    """Trains what is missing; gives the rows of the table.

    Args:
        model: a key of ``STUDIES``.
        seeds: of each variant, at least 2.
        chosen: names of variants; the recipe itself always comes first.
        flags: more flags of ``scripts/fit.py``, ``--log_dir`` among them.
        whole: train whole runs, not shortened ones.

    Returns:
        ``{"rows": [{"variant", "flags", "accuracies", "seconds", "difference", "interval"}, …]}``;
        accuracies and seconds a value a seed, difference and half its 95 % interval in accuracy.

    Raises:
        UserError: settings or data that are wrong.
        TrainingEndedError: a training failed or was interrupted.
    """
    named, plans = plan_study(model, seeds, chosen, flags, whole)
    images = images_of(plans[BASE][0])
    runs = {name: [find_or_train(plan, images) for plan in row] for name, row in plans.items()}
    base = [_accuracy(run) for run in runs[BASE]]
    rows = []
    for name, found in runs.items():
        accuracies = [_accuracy(run) for run in found]
        difference, interval = paired(accuracies, base)
        rows.append(
            {
                "variant": name,
                "flags": named[name],
                "accuracies": accuracies,
                "seconds": [run.summary["seconds"]["train"] for run in found],
                "difference": difference,
                "interval": interval,
            }
        )
    first = runs[BASE][0].summary
    data = first["data"]
    devices = [hardware(run.summary) for found in runs.values() for run in found]
    return {
        "model": model,
        "shortened": "" if whole else STUDIES[model].shortened,
        "seeds": seeds,
        "data": f"{describe(data['source'], data['location'])}, fingerprint {data['fingerprint']}",
        "hardware": "; ".join(dict.fromkeys(devices)),
        "rows": rows,
    }


def plan_study(
    model: str, seeds: list[int], chosen: list[str], flags: list[str], whole: bool
) -> tuple[dict[str, str], dict[str, list[FitPlan]]]:
    """The flags of each variant and a plan for each seed of it; arguments as of ``run_study``."""
    study = STUDIES[model]
    named = {BASE: "", **{name: study.variants[name] for name in chosen}}
    common = EVALUATED_AT_THE_END if whole else study.shortened
    plans = {
        name: [_plan([*common.split(), *words.split()], model, seed, flags) for seed in seeds]
        for name, words in named.items()
    }
    return named, plans


def paired(values: list[float], base: list[float]) -> tuple[float, float]:
    """The mean difference of paired values and half of its 95 % interval."""
    differences = [value - other for value, other in zip(values, base, strict=True)]
    freedom = min(len(differences) - 1, len(STUDENT))
    return mean(differences), STUDENT[freedom - 1] * stdev(differences) / sqrt(len(differences))


def table(found: dict[str, Any]) -> str:
    """The rows as Markdown; accuracies in %, times the median of the ratios to the recipe's."""
    base = found["rows"][0]["seconds"]
    lines = [line(["", "validation accuracy (%)", "difference", "time"]), line(["---"] * 4)]
    for row in found["rows"]:
        accuracy = f"{100 * mean(row['accuracies']):.2f} ± {100 * stdev(row['accuracies']):.2f}"
        difference = f"{100 * row['difference']:+.2f} ± {100 * row['interval']:.2f}"
        ratios = [own / other for own, other in zip(row["seconds"], base, strict=True)]
        time = f"{median(ratios):.2f}"
        lines.append(line([row["variant"], accuracy, difference if row["flags"] else "–", time]))
    return "\n".join(lines)


def _plan(words: list[str], model: str, seed: int, flags: list[str]) -> FitPlan:
    fixed = ["--model", model, "--seed", str(seed), "--dashboard", "off", "--progress", "none"]
    return parse_fit([*fixed, *words, *flags])


def _accuracy(run: Run) -> float:
    try:
        return float(run.summary["accuracy"]["val"]["last"])
    except KeyError:
        raise UserError("--val_size 0: an ablation compares on the validation split") from None
