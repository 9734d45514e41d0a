"""What accuracy a recipe reaches in what time: several seeds, all training images.

Training sees all training images; the test set is read at the end alone.
Before and after each run the best convolution that the machine reaches is timed: on a shared
machine seconds mean little without it. On a GPU a run of a few steps comes first.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cifar_lab.atomic import write_json
from cifar_lab.benchmark.peak import convolution, peak
from cifar_lab.devices import device_kind
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.files import read_json
from cifar_lab.inference.evaluation import evaluate_logits
from cifar_lab.inference.known_data import load_split
from cifar_lab.inference.logits import split_logits
from cifar_lab.inference.restore import load_classifier
from cifar_lab.inference.tta import SHIFTS
from cifar_lab.models import REGISTRY
from cifar_lab.parsing import FitPlan, parse_fit, refuse_seed
from cifar_lab.report.results import hardware, mean_and_deviation, versions_of
from cifar_lab.report.runs import Run, find, images_of, train
from cifar_lab.report.table import line
from cifar_lab.settings import FitSettings
from cifar_lab.training.fit import run_fit
from cifar_lab.training.trainer import hardware_of

EVALUATION_BATCH = 500  # images; no number depends on it
WARM_UP = 20  # steps
NEVER = 1_000_000  # steps; the end is evaluated in any case
# At a point of its curves a run waits for the device: there are few.
PROTOCOL = ["--val_size", "0", "--eval_every", str(NEVER), "--log_every", "100"]
DTYPES = {  # of Lightning's precisions
    "64": torch.float64,
    "32": torch.float32,
    "16": torch.float16,
    "bf16": torch.bfloat16,
}
EXTRA_FILE = "speedrun.json"  # in the folder of a run: what its summary does not say
COLUMNS = (
    "recipe",
    "epochs",
    "steps",
    "test accuracy (%)",
    "mean of views (%)",
    "training",
    "in all",
    "seeds",
    "convolution, GFLOP/s",
    "hardware",
)


def run_speedrun(
    recipe: str, seeds: list[int], epochs: list[int], tta: str, flags: list[str]
) -> dict[str, Any]:
    """Trains what is missing; gives a row for each number of epochs.

    Args:
        recipe: its name.
        seeds: of the runs.
        epochs: how long to train; empty for the recipe's own number.
        tta: test-time augmentation of the second accuracy; a key of ``SHIFTS``.
        flags: more flags of ``scripts/fit.py``.

    Returns:
        ``{"data", "fingerprint", "versions", "rows": [{"recipe", "epochs", "steps",
        "seeds", "accuracies", "tta", "accuracies_of_views", "train_seconds", "total_seconds",
        "convolution_gflops", "hardware"}, …]}``; lists have a value a seed, of the convolution one
        before and one after its run; epochs are None for a recipe that counts steps.

    Raises:
        UserError: settings, data or runs that are wrong.
        TrainingEndedError: a training failed or was interrupted.
    """
    refuse_seed(flags)
    words = ["--recipe", recipe, *PROTOCOL, *flags]
    lengths = [["--max_epochs", str(number)] for number in epochs] or [[]]
    plans = [
        [parse_fit([*words, *length, "--seed", str(seed)]) for seed in seeds] for length in lengths
    ]
    _check_protocol(plans[0][0].settings)
    images = images_of(plans[0][0])
    if any(find(plan, images) is None for row in plans for plan in row):
        _warm_up(words, plans[0][0].settings)
    runs = [[_run(plan, images, tta) for plan in row] for row in plans]
    first = runs[0][0].summary
    return {
        "data": Path(first["data"]["location"]).name,
        "fingerprint": first["data"]["fingerprint"],
        "versions": versions_of([run for row in runs for run in row]),
        "rows": [_row(row, tta) for row in runs],
    }


def _warm_up(words: list[str], settings: FitSettings) -> None:
    """On a GPU a short run first, so that no measured one waits for libraries to be loaded."""
    if device_kind(settings.accelerator) != "cuda":
        return
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        short = [*words, "--max_steps", str(WARM_UP), "--seed", "0", "--log_dir", folder]
        if status := run_fit(parse_fit(short)):
            raise TrainingEndedError(status)


def _check_protocol(settings: FitSettings) -> None:
    if settings.val_size != 0:
        raise UserError(f"--val_size {settings.val_size}: a speedrun trains on all images")
    if settings.eval_every != NEVER:
        raise UserError(f"--eval_every {settings.eval_every}: a speedrun evaluates at its end")
    if settings.fast_dev_run or settings.resume:
        raise UserError("--fast_dev_run and --resume: a speedrun trains whole runs")
    for name in ("limit_train_batches", "limit_val_batches", "overfit_batches"):
        if getattr(settings, name):
            raise UserError(f"--{name}: a speedrun trains and evaluates on all images")


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [line(COLUMNS), line(["---"] * len(COLUMNS))]
    return "\n".join([*lines, *(line(_cells(row)) for row in rows)])


def views_of(row: dict[str, Any]) -> int:
    """How many views of an image the second accuracy of a row is of."""
    return 2 * len(SHIFTS[row["tta"]])  # each with its mirror image


def _run(plan: FitPlan, images: str, tta: str) -> Run:
    """The finished run of a plan, with the file of what its summary does not say."""
    run = find(plan, images)
    peaks = []
    if run is None:
        peaks.append(_convolution_gflops(plan))
        run = train(plan, images, anew=True)
        peaks.append(_convolution_gflops(plan))
    path, steps = run.path / EXTRA_FILE, run.summary["steps"]
    extra = {"steps": steps, "convolution_gflops": peaks, "accuracies_of_views": {}}
    if path.exists():
        found = _read_extra(path)
        # A run that was made longer since then has other weights. Files of an older version know
        # one kind of views and may not know the steps.
        if found.get("steps", steps) == steps:
            extra = {**extra, **{name: found[name] for name in extra if name in found}}
    if tta not in extra["accuracies_of_views"]:
        extra["accuracies_of_views"][tta] = _accuracy_of_views(run, plan, tta)
        write_json(path, extra)
    return run


def _read_extra(path: Path) -> dict[str, Any]:
    found = read_json(path, {})
    peaks, views = found.get("convolution_gflops", []), found.get("accuracies_of_views", {})
    right = isinstance(peaks, list) and isinstance(views, dict)
    if not right or not all(isinstance(value, int | float) for value in [*peaks, *views.values()]):
        raise UserError(f"{path}: damaged; remove it to try the views anew")
    return found


def _convolution_gflops(plan: FitPlan) -> float:
    """What the machine reaches now, on the device and in the precision of a run."""
    accelerator, precision = hardware_of(plan.settings, REGISTRY[plan.recipe.model].cpu_only)
    dtype = DTYPES[precision.partition("-")[0]]
    return round(peak(convolution, torch.device(device_kind(accelerator)), dtype) / 1e9, 1)


def _accuracy_of_views(run: Run, plan: FitPlan, tta: str) -> float:
    """Of the test set, with the mean logits of the views of each image."""
    settings = plan.settings
    model = load_classifier(run.path / "checkpoints" / "last.ckpt", settings.accelerator)
    known = load_split(model, "test", settings.data_dir, settings.source)
    return evaluate_logits(*split_logits(model, known, EVALUATION_BATCH, tta)).accuracy


def _row(runs: list[Run], tta: str) -> dict[str, Any]:
    """One number of epochs."""
    summaries = [run.summary for run in runs]
    extras = [_read_extra(run.path / EXTRA_FILE) for run in runs]
    devices = dict.fromkeys(map(hardware, summaries))
    return {
        "recipe": summaries[0]["recipe"],
        "epochs": runs[0].config["max_epochs"],
        "steps": summaries[0]["steps"],
        "seeds": [summary["seed"] for summary in summaries],
        "accuracies": [round(s["accuracy"]["test"]["last"], 6) for s in summaries],
        "tta": tta,
        "accuracies_of_views": [round(extra["accuracies_of_views"][tta], 6) for extra in extras],
        "train_seconds": [round(summary["seconds"]["train"], 1) for summary in summaries],
        "total_seconds": [round(summary["seconds"]["total"], 1) for summary in summaries],
        "convolution_gflops": [extra["convolution_gflops"] for extra in extras],
        "hardware": list(devices),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    peaks = [value for both in row["convolution_gflops"] for value in both]
    return [
        f"`{row['recipe']}`",
        str(row["epochs"] or "–"),
        f"{row['steps']:,}",
        mean_and_deviation(row["accuracies"]),
        f"{mean_and_deviation(row['accuracies_of_views'])} ({views_of(row)} views)",
        _seconds(row["train_seconds"]),
        _seconds(row["total_seconds"]),
        ", ".join(map(str, row["seeds"])),
        f"{min(peaks):,.0f}–{max(peaks):,.0f}" if peaks else "–",
        "; ".join(row["hardware"]),
    ]


def _seconds(values: list[float]) -> str:
    mean = fmean(values)
    return f"{mean:,.0f} s" if mean >= 10 else f"{mean:.1f} s"
