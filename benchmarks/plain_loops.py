"""Train plain PyTorch loops by the report's protocol, and write their curves.

``python benchmarks/plain_loops.py --help``. The curves show whether the package trains as well as a
loop that a person would write: docs/results.md compares them with the curves of ``report``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cifar_lab.cli.help import help_of
from cifar_lab.cli.main import run_guarded
from cifar_lab.cli.output import check_writable
from cifar_lab.cli.parser import Command
from cifar_lab.files import write_json
from cifar_lab.settings import PositiveInt, Seed, setting


@dataclass(frozen=True)
class Options:
    """The flags, apart from those of data and hardware."""

    recipes: list[str] = setting(["mlp", "deep_mlp", "cnn"], "recipes to train")
    seeds: list[Seed] = setting([0, 1, 2, 3, 4], "seeds of the runs")
    workers: PositiveInt = setting(1, "runs to train in parallel, each in one thread")
    output: Path = setting(Path("plain_loops.json"), "file for the curves")


COMMAND = Command(
    "plain_loops",
    "Trains the networks of recipes with plain PyTorch loops, evaluates them on the test set as\n"
    "`cifar-lab report` does, and writes their curves as JSON. Exit status: 0 done, 1 a worker\n"
    "was lost, 2 wrong input, 130 interrupted.",
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
    words = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(words):
        print(help_of(COMMAND, [], "plain_loops.py"))
        return 0
    return run_guarded("plain_loops.py", lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    from cifar_lab.experiments.workers import side_by_side
    from contenders import Setting
    from sections import describe

    options, given = COMMAND.parse(words)
    check_writable("--output", options.output)
    settings = {recipe: Setting(recipe, 1, given) for recipe in options.recipes}  # checks them
    jobs = [(recipe, seed) for recipe in options.recipes for seed in options.seeds]
    found: dict[Job, dict[str, Any]] = {}
    for job, curve in side_by_side(partial(train, given), jobs, options.workers):
        found[job] = curve
        print(f"{job[0]}, seed {job[1]}: {100 * curve['accuracies'][-1]:.2f} %", flush=True)
    write_json(
        options.output,
        {
            "command": shlex.join(["benchmarks/plain_loops.py", *words]),
            **describe(next(iter(settings.values()))),
            "loops": {
                recipe: {
                    "precision": settings[recipe].precision,
                    "seeds": options.seeds,
                    "steps": found[recipe, options.seeds[0]]["steps"],
                    "accuracies": [found[recipe, seed]["accuracies"] for seed in options.seeds],
                }
                for recipe in options.recipes
            },
        },
    )
    return 0


def train(given: Mapping[str, str], job: Job) -> dict[str, Any]:
    """Train a plain loop; return the ``steps`` of its curve and the ``accuracies`` there."""
    import torch

    from cifar_lab.plan import Plan
    from contenders import Setting, plain_loop

    torch.set_num_threads(1)
    recipe, seed = job
    usual = Plan.of(recipe=recipe).settings
    setting = Setting(recipe, usual.max_steps or 1, given)
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
