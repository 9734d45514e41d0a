"""A speedrun: the accuracy of a recipe against its training time, with several seeds.

The runs are trained on all training images, and the test set is read only at the end. Before and
after each run the fastest convolution of the machine is timed: on a shared machine, seconds mean
little without it. On a GPU, a run of a few steps comes first.
"""

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cifar_lab.devices import device_kind
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.experiments.peak import convolution, peak
from cifar_lab.experiments.study import Study
from cifar_lab.experiments.tables import hardware_of, versions_of
from cifar_lab.files import read_json, write_json
from cifar_lab.inference.evaluation import evaluate_logits
from cifar_lab.inference.known_data import load_split
from cifar_lab.inference.logits import split_logits
from cifar_lab.models import REGISTRY
from cifar_lab.plan import Plan
from cifar_lab.recipes.own_model import import_model
from cifar_lab.run.run import Run
from cifar_lab.training import fit
from cifar_lab.training.trainer import hardware_of as hardware_of_settings

EVALUATION_BATCH = 500  # images; no number depends on it
WARM_UP = 20  # steps
NEVER = 1_000_000  # steps; the end is evaluated in any case
# A run waits for the device at every point of its curves, so there are few.
PROTOCOL = {"val_size": 0, "eval_every": NEVER, "log_every": 100}
# By the start of Lightning's names of precisions.
DTYPES = {"64": torch.float64, "32": torch.float32, "16": torch.float16, "bf16": torch.bfloat16}
EXTRA_FILE = "speedrun.json"  # in the folder of a run: what its summary does not hold


def speedrun(
    plan: Plan, seeds: Sequence[int], epochs: Sequence[int], tta: str, command: str
) -> dict[str, Any]:
    """Train missing runs; return a row per number of epochs; raise what :meth:`Study.runs` raises.

    The plan has the settings of ``PROTOCOL``; without ``epochs``, it sets the length of the runs.
    The second accuracy uses the test-time augmentation ``tta`` of ``inference/logits.py``.
    """
    _check_protocol(plan)
    variants = {f"{n} epochs": plan.replace(max_epochs=n) for n in epochs} or {"": plan}
    study = Study(variants, seeds, command, anew=True)  # seconds are measured
    if any(study.find(one, study.images) is None for _, one in study.plans()):
        _warm_up(plan)
    runs: dict[str, list[Run]] = {}
    for name, one in study.plans():
        runs.setdefault(name, []).append(_measured_run(study, one, tta))
    first = next(iter(runs.values()))[0].summary
    return {
        "data": Path(first["data"]["location"]).name,
        "fingerprint": first["data"]["fingerprint"],
        "versions": versions_of([run for several in runs.values() for run in several]),
        "rows": [_row(several, tta) for several in runs.values()],
    }


def _check_protocol(plan: Plan) -> None:
    settings = plan.settings
    if settings.val_size != 0:
        raise UserError(f"--val_size {settings.val_size}: a speedrun trains on all images")
    if settings.eval_every != NEVER:
        raise UserError(f"--eval_every {settings.eval_every}: a speedrun evaluates at its end")
    for name in ("limit_train_batches", "limit_val_batches", "overfit_batches"):
        if getattr(settings, name):
            raise UserError(f"--{name}: a speedrun trains and evaluates on all images")


def _warm_up(plan: Plan) -> None:
    """Train a few steps on a GPU, so that no measured run waits for libraries to be loaded."""
    if device_kind(plan.settings.accelerator) != "cuda":
        return
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        short = plan.replace(max_steps=WARM_UP, seed=0, log_dir=folder)
        outcome = fit.train(short, command="")
    if outcome.status:
        raise TrainingEndedError(outcome.message, outcome.status)


def _measured_run(study: Study, plan: Plan, tta: str) -> Run:
    """Return the finished run of a plan, and write the file of what its summary lacks."""
    run, peaks = study.find(plan, study.images), []
    if run is None:
        before = _convolution_gflops(plan)
        run = study.train(plan)
        peaks = [before, _convolution_gflops(plan)]
    path, steps = run.path / EXTRA_FILE, run.summary["steps"]
    extra = {"steps": steps, "convolution_gflops": peaks, "accuracies_of_views": {}}
    if path.exists():
        found = _read_extra(path)
        # A run that was made longer since then has other weights. Files of an older version hold
        # one kind of views and may not hold the steps.
        if found.get("steps", steps) == steps:
            extra = {**extra, **{name: found[name] for name in extra if name in found}}
    if tta not in extra["accuracies_of_views"]:
        model = run.load_model("last", plan.settings.accelerator)
        known = load_split(model, "test", plan.settings.data_dir, plan.settings.source)
        logits = split_logits(model, known, EVALUATION_BATCH, tta)
        extra["accuracies_of_views"][tta] = evaluate_logits(*logits).accuracy
        write_json(path, extra)
    return run


def _read_extra(path: Path) -> dict[str, Any]:
    found = read_json(path, {})
    peaks, views = found.get("convolution_gflops", []), found.get("accuracies_of_views", {})
    right = isinstance(peaks, list) and isinstance(views, dict)
    if not right or not all(isinstance(value, int | float) for value in [*peaks, *views.values()]):
        raise UserError(f"{path}: damaged; remove it to compute it again")
    return found


def _convolution_gflops(plan: Plan) -> float:
    name = plan.recipe.model
    model: Any = REGISTRY[name] if name in REGISTRY else import_model(name)
    accelerator, precision = hardware_of_settings(plan.settings, model.cpu_only)
    dtype = DTYPES[precision.partition("-")[0]]
    return round(peak(convolution, torch.device(device_kind(accelerator)), dtype) / 1e9, 1)


def _row(runs: Sequence[Run], tta: str) -> dict[str, Any]:
    """Return the row of one number of epochs, which are None for a recipe that counts steps.

    Lists have a value for each seed; those of the convolution have two, before and after the run.
    """
    summaries = [run.summary for run in runs]
    extras = [_read_extra(run.path / EXTRA_FILE) for run in runs]
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
        "hardware": hardware_of(runs),
    }
