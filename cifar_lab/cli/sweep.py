"""``cifar-lab sweep``: search for the best settings of a model on the validation split."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cifar_lab.cli.parser import STUDY_STATUSES, Command, plan_of
from cifar_lab.errors import UserError
from cifar_lab.settings import PositiveInt, Seed, setting


@dataclass(frozen=True)
class _Options:
    space: tuple[str, ...] = setting(
        (), "NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=CHOICE,CHOICE; repeat for each setting"
    )
    trials: PositiveInt = setting(20, "number of trials")
    workers: PositiveInt = setting(1, "trials to run in parallel on this machine")
    seeds: list[Seed] = setting([0], "seeds of each trial, whose accuracies are averaged")
    sampler: Literal["tpe", "random", "grid"] = setting("tpe", "how the next trial is chosen")
    pruner: Literal["none", "median", "hyperband"] = setting(
        "none", "how to stop trials early that do worse than others"
    )
    study: str | None = setting(None, "name of the study [sweep_MODEL]")
    storage: str | None = setting(
        None, "database shared by the workers, such as sqlite:///study.db [beside the runs]"
    )
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "sweep",
    "Trains a model with different settings, chosen by Optuna, and compares them on the\n"
    "validation split; the test set is read once, for the winner. Accepts all flags of fit.\n"
    "Each trial is a run in LOG_DIR/STUDY. Prints the best trials, and writes sweep.json, a\n"
    "figure, and the winner's settings as best.yaml, for --config. The same command, given\n"
    "again, joins a sweep in progress.\n\n"
    f"{STUDY_STATUSES}continues.",
    _Options,
    shared=("model", "recipe", "max_steps", "max_epochs", "data_dir", "source", "log_dir"),
    plan=True,
    results=True,
    example="--model mlp --space lr=1e-4..1e-2:log --trials 40",
)
INTERRUPTED_NOTE = "Interrupted; the same command continues."


def run(options: Any, given: Mapping[str, str], command: str) -> dict[str, Any]:
    """Run the command; return its results."""
    plan = plan_of({"dashboard": "scalars", **given})
    if not options.space:
        raise UserError("--space: missing; for example --space lr=1e-4..1e-2:log")
    try:
        from cifar_lab.experiments.space import parse_space
    except ImportError as error:
        raise UserError("a sweep needs Optuna: pip install 'cifar_lab[sweep]'") from error
    name = options.study or f"sweep_{plan.recipe.model.rpartition(':')[2]}"
    space = parse_space(options.space, plan)

    from cifar_lab.experiments import sweep_page
    from cifar_lab.experiments.sweep import Sweep
    from cifar_lab.experiments.trials import work
    from cifar_lab.experiments.workers import share_of_machine, side_by_side

    shared = (options.sampler, options.pruner, options.storage, command)
    sweep = Sweep(name, plan, space, options.space, options.seeds, options.trials, *shared)
    sweep.open()  # so that all is refused that can be, before the work begins
    if options.workers == 1:
        work(sweep)
    else:
        print(f"{sweep.size} trials, {options.workers} at a time", flush=True)
        one = replace(sweep, plan=share_of_machine(plan, options.workers))
        list(side_by_side(work, [one] * options.workers, options.workers))
    results = sweep_page.finish(sweep)
    print(f"\n{sweep_page.table(results)}\n\nsweep folder: {sweep.folder}")
    print(f"page: {sweep.folder / 'sweep.html'}")
    return results
