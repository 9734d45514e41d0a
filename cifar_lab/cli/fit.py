"""``cifar-lab fit``: train a model, resume a run, or train one run for each of several seeds."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cifar_lab.cli.main import discard, program, tell
from cifar_lab.cli.parser import Command, plan_of
from cifar_lab.errors import PIPE_CLOSED, UserError
from cifar_lab.settings import PositiveInt, Seed, setting


@dataclass(frozen=True)
class _Options:
    seeds: list[Seed] = setting([], "train a run per seed, such as 0..4; print the mean", "run")
    workers: PositiveInt = setting(1, "runs of --seeds to train in parallel", "run")
    resume: str | None = setting(None, "run to resume: its folder, a checkpoint, or last", "output")
    print_config: bool = setting(False, "print all settings as YAML, and exit", "output")


COMMAND = Command(
    "fit",
    "Trains a model on CIFAR-10. Settings come from a recipe; --config FILE (-c) overrides it,\n"
    "and flags override both. Dashes and underscores are the same; a switch needs no value.",
    _Options,
    plan=True,
    example="--model cnn --data_dir cifar10 --seed 1",
)
INTERRUPTED_NOTE = "Interrupted; with --seeds, the same command continues."


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    if options.seeds and options.resume is not None:
        raise UserError("--resume and --seeds: a single run is resumed; give one of them")
    if options.seeds and "seed" in given:
        raise UserError(f"--seed {given['seed']} and --seeds: give one of them")
    if options.workers > 1 and not options.seeds:
        raise UserError(f"--workers {options.workers}: runs of --seeds are trained side by side")
    if options.resume is None:
        plan, point = plan_of(given), None
    else:
        from cifar_lab.run.resume import resume_plan

        plan, point = resume_plan(options.resume, given)
    if options.print_config:
        print(plan.as_yaml(), end="")
        return 0
    if options.seeds:
        from cifar_lab.experiments.study import Study, table_of_seeds

        (runs,) = Study({"": plan}, options.seeds, command, workers=options.workers).runs().values()
        print(table_of_seeds(runs))
        return 0
    from cifar_lab.training.fit import train

    return _report(train(plan, point, command=command))


def _report(outcome: Any) -> int:
    """Print why a run ended early and how to resume it; return the exit status."""
    if outcome.status == PIPE_CLOSED:
        discard(sys.stdout)
    if outcome.message:
        told, run = outcome.message, outcome.run
        if outcome.resumable:
            words = ["--resume", str(run.path), *(["--model", run.model] if run.model else [])]
            told += f" To resume: {program('fit')} {shlex.join(words)}"
        # To the error stream: Ctrl-C has ended the program that reads the output, such as `tee`.
        tell(f"\n{told}" if outcome.status > 1 else f"cifar-lab fit: {told}")
    return outcome.status
