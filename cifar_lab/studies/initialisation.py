"""Why the report's PyTorch MLP falls behind its NumPy MLP: runs, one change at a time.

Both are 3072–100–10 with the same rate, batch, steps and inputs (raw pixels minus the mean image);
they differ in the initialisation. A variant is a list of flags of ``scripts/fit.py`` and gives the
same numbers as that command, but for those that make one layer alone small. The answer is in
``docs/initialisation.md``.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything
from torch import nn

from cifar_lab.atomic import write_json
from cifar_lab.errors import UserError
from cifar_lab.files import read_json
from cifar_lab.models.mlp import REPORT_STD
from cifar_lab.parsing import FitPlan, parse_fit, refuse_seed
from cifar_lab.report.runs import decisive, images_of
from cifar_lab.studies.probe import Probe
from cifar_lab.training.final_evaluation import FinalEvaluation
from cifar_lab.training.fit import build_data, build_model
from cifar_lab.training.summary import describe_data
from cifar_lab.training.trainer import build_trainer

# The report's protocol, on hardware that computes the same everywhere: float32 on the CPU.
COMMON = "--val_size 0 --source cifar10 --accelerator cpu --precision 32-true --log_every 50"
STANDARDIZE = "--normalization standardize"
ProbedRun = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One row of the tables.

    Attributes:
        name: of the folder of its runs.
        label: for people.
        flags: of ``scripts/fit.py``; what they do not name is the report's.
        small_layers: linear layers, from 0, that start as ``--init report`` has them. No flag does
            this for one layer alone.
        colour: in the figure; empty for a variant that stands in the tables only.
        line: its style there.
    """

    name: str
    label: str
    flags: str
    small_layers: tuple[int, ...] = ()
    colour: str = ""
    line: str = "-"


# Colours of Okabe and Ito, which colour-blind people tell apart: https://jfly.uni-koeln.de/color/
VARIANTS = (
    Variant("numpy", "NumPy, both layers small", "--model numpy_mlp", colour="#000000", line=":"),
    Variant("small", "both layers small", "--model mlp --init report", colour="#0072B2"),
    Variant("default", "PyTorch's default", "--model mlp", colour="#D55E00"),
    Variant("first_small", "first layer small", "--model mlp", (0,), colour="#56B4E9"),
    Variant("second_small", "second layer small", "--model mlp", (1,), colour="#E69F00"),
    Variant("default_lr", "default, lr 2e-4", "--model mlp --lr 2e-4", colour="#CC79A7", line="--"),
    Variant("default_adam", "default, Adam 2e-4", "--model mlp --optimizer adam --lr 2e-4"),
    Variant(
        "small_adam",
        "both small, Adam 2e-4",
        "--model mlp --init report --optimizer adam --lr 2e-4",
    ),
    Variant("default_std", "default, standardised", f"--model mlp {STANDARDIZE}"),
    Variant(
        "default_std_lr",
        "default, standardised, lr 0.1",
        f"--model mlp {STANDARDIZE} --lr 0.1",
        colour="#009E73",
        line="--",
    ),
)


def run_study(
    seeds: Sequence[int], log_dir: Path, flags: Sequence[str] = ()
) -> dict[str, list[ProbedRun]]:
    """Runs every variant with every seed; runs that ``log_dir`` holds already are read from there.

    Args:
        seeds: of the runs.
        log_dir: gets one ``<variant>/seed_<n>.json`` for each run.
        flags: of ``scripts/fit.py``, for every run.

    Returns:
        The runs of each variant, by its name.

    Raises:
        UserError: a wrong flag, or no images.
    """
    refuse_seed(flags)
    images = images_of(parse_fit([*shlex.split(f"{VARIANTS[0].flags} {COMMON}"), *flags]))
    runs: dict[str, list[ProbedRun]] = {variant.name: [] for variant in VARIANTS}
    for seed in seeds:
        for variant in VARIANTS:
            words = [*shlex.split(f"{variant.flags} {COMMON} --seed {seed}"), *flags]
            path = log_dir / variant.name / f"seed_{seed}.json"
            runs[variant.name].append(_run_once(path, parse_fit(words), variant, images))
    return runs


def _run_once(path: Path, plan: FitPlan, variant: Variant, images: str) -> ProbedRun:
    """The run of these settings on these images: from the file, else trained and written to it."""
    config = {**plan.as_config(), "small_layers": list(variant.small_layers)}
    if path.exists():
        found = _read_run(path)
        same = decisive(found["config"]) == decisive(config)
        if same and found["data"].get("fingerprint") == images:
            return found
    print(f"running {path.parent.name}, seed {plan.settings.seed}", flush=True)
    run = {"config": config, **train(plan, variant.small_layers)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, run, indent=None)
    return run


def _read_run(path: Path) -> ProbedRun:
    kinds = {"config": dict, "data": dict, "losses": list, "points": list, "curvature": list}
    try:
        return read_json(path, kinds)
    except UserError as error:
        raise UserError(f"{error}; remove it to train it anew") from error


def train(plan: FitPlan, small_layers: Sequence[int] = ()) -> ProbedRun:
    """Trains once; gives what ``Probe`` saw and what the data were.

    Raises:
        UserError: a validation split, where the report follows the test set.
    """
    if plan.settings.val_size != 0:
        raise UserError(f"--val_size {plan.settings.val_size}: the study has no validation split")
    seed_everything(plan.settings.seed, verbose=False)
    data = build_data(plan)
    data.prepare_data()
    data.setup()
    model = build_model(plan, data)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for number in small_layers:
        nn.init.normal_(linears[number].weight, std=REPORT_STD)
        nn.init.zeros_(linears[number].bias)
    trainer = build_trainer(plan.settings, cpu_only=model.cpu_only)
    probe = Probe(data)
    trainer.callbacks += [FinalEvaluation(), probe]
    trainer.fit(model, datamodule=data)
    return {
        "data": describe_data(data),
        "losses": probe.losses,
        "points": probe.points,
        "curvature": probe.curvature,
    }
