"""Train plain PyTorch loops by the report's protocol, and write their curves.

``python benchmarks/plain_loops.py --help``. The curves show whether the package trains as well as a
loop that a person would write: docs/results.md compares them with the curves of ``report``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cifar_lab.cli.output import check_writable
from cifar_lab.cli.parser import Command
from cifar_lab.errors import UserError
from cifar_lab.experiments.report import SYSTEMS
from cifar_lab.files import read_json, write_json
from cifar_lab.settings import PositiveInt, Seed, setting, unknown
from program import run


@dataclass(frozen=True)
class Options:
    """The flags, apart from those of data and hardware."""

    recipes: list[str] = setting(["mlp", "deep_mlp", "cnn"], "recipes to train")
    seeds: list[Seed] = setting([0, 1, 2, 3, 4], "seeds of the runs")
    workers: PositiveInt = setting(1, "runs to train in parallel")
    output: Path = setting(Path("plain_loops.json"), "file for the curves")


COMMAND = Command(
    "plain_loops",
    "Trains the networks of recipes with plain PyTorch loops, each in one thread, evaluates them\n"
    "on the test set as `cifar-lab report` does, and writes their curves as JSON. Curves that the\n"
    "file holds already are kept. Exit status: 0 done, 1 a worker was lost, 2 wrong input,\n"
    "130 interrupted.",
    Options,
    shared=("accelerator", "precision", "data_dir", "source"),
    example="--recipes mlp --seeds 0..4 --workers 2 --output docs/plain_loops.json",
)
Job = tuple[str, int]  # recipe and seed


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return the exit status.

    Args:
        argv: command-line arguments; the default is those of the process.
    """
    return run(COMMAND, _run, argv)


def _run(words: Sequence[str]) -> int:
    from cifar_lab.experiments.workers import side_by_side

    options, given = COMMAND.parse(words)
    check_writable("--output", options.output)
    found = _opened(options.output, _checked(options.recipes), given)
    jobs = [
        (recipe, seed)
        for recipe in options.recipes
        for seed in options.seeds
        if str(seed) not in found["loops"].setdefault(recipe, {})
    ]
    given = {**given, "precision": found["precision"]}  # of all workers
    for (recipe, seed), curve in side_by_side(partial(train, given), jobs, options.workers):
        found["loops"][recipe][str(seed)] = curve
        write_json(options.output, found)
        print(f"{recipe}, seed {seed}: {100 * curve['accuracies'][-1]:.2f} %", flush=True)
    return 0


def _checked(names: Sequence[str]) -> str:
    """Return the first recipe, after checking that all are those of systems in PyTorch."""
    known = [system.recipe for system in SYSTEMS if system.recipe != "numpy_mlp"]
    for name in names:
        if name not in known:
            raise UserError(unknown("--recipes", name, known))
    return names[0]


def _opened(path: Path, recipe: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of the file, or that of a new one; other images are refused."""
    import torch

    from contenders import Setting
    from sections import describe

    torch.set_num_threads(1)  # as in `train`, for the description
    setting = Setting(recipe, 1, given)
    context = {**describe(setting), "precision": setting.precision}
    found = read_json(path, {"loops": dict}) if path.exists() else {"loops": {}}
    for name in ("data", "precision"):
        if found.get(name, context[name]) != context[name]:
            raise UserError(f"{path}: has {name} {found[name]}, not {context[name]}")
    return {**context, "loops": found["loops"]}


def train(given: Mapping[str, str], job: Job) -> dict[str, Any]:
    """Train a plain loop; return the ``steps`` of its curve and the ``accuracies`` there."""
    import torch

    from cifar_lab.plan import Plan
    from contenders import Setting, plain_loop

    torch.set_num_threads(1)
    recipe, seed = job
    usual = Plan.of(recipe=recipe).settings
    assert usual.max_steps is not None
    setting = Setting(recipe, usual.max_steps, given)
    images, labels = setting.test_tensors()
    steps, accuracies = [], []
    for step, model in enumerate(plain_loop(setting, seed)):
        if step and (step % usual.eval_every == 0 or step == setting.steps):
            model.eval()
            with torch.inference_mode(), setting.autocast():
                parts = [model(part).argmax(1) for part in images.split(500)]
            model.train()
            steps.append(step)
            accuracies.append(round((torch.cat(parts) == labels).double().mean().item(), 6))
    return {"steps": steps, "accuracies": accuracies}


if __name__ == "__main__":
    sys.exit(main())
