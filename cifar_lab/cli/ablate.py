"""``cifar-lab ablate``: what each part of a fast recipe contributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.parser import STUDY_STATUSES, Command
from cifar_lab.errors import UserError
from cifar_lab.settings import NonNegativeInt, PositiveInt, Seed, setting, unknown


@dataclass(frozen=True)
class _Options:
    model: str = setting("fast_cnn", "model whose recipe is ablated")
    seeds: list[Seed] = setting([0, 1, 2], "seeds of the runs, at least two")
    only: list[NonNegativeInt] = setting([], "numbers of the variants to train; 0 lists them [all]")
    whole: bool = setting(False, "train full-length runs: takes a GPU, or many hours")
    workers: PositiveInt = setting(1, "runs to train in parallel; each takes longer")
    log_dir: Path = setting(Path("lightning_logs/ablation"), "folder for the runs")
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "ablate",
    "Trains a fast recipe as it is, and with one part at a time left out or changed, with the\n"
    "same seeds. The runs are shortened unless --whole is given. Prints how much validation\n"
    "accuracy each part adds, with its 95 % interval over the seeds, and how much time it takes.\n"
    "Runs that --log_dir already holds are not repeated.\n\n"
    f"{STUDY_STATUSES}continues.",
    _Options,
    shared=("accelerator", "precision", "threads", "data_dir", "source"),
    results=True,
    example="--model fast_mlp --seeds 0..4 --only 1,2",
)
INTERRUPTED_NOTE = "Interrupted; the same command continues."


def run(options: Any, given: Mapping[str, str], command: str) -> dict[str, Any]:
    """Run the command; return its results."""
    from cifar_lab.experiments import ablation
    from cifar_lab.experiments.study import Study

    model, seeds = options.model, ",".join(map(str, options.seeds))
    if model not in ablation.ABLATIONS:
        raise UserError(unknown("--model", model, ablation.ABLATIONS))
    if len(options.seeds) < 2:
        raise UserError(f"--seeds {seeds}: expected at least two different seeds")
    chosen = _chosen(options.only, list(ablation.ABLATIONS[model].variants))
    changes = {**given, "log_dir": options.log_dir}
    plans = ablation.plans(model, chosen, options.whole).items()
    changed = {name: plan.changed(changes, "--") for name, plan in plans}
    runs = Study(changed, options.seeds, command, workers=options.workers).runs()
    found = ablation.gather(model, options.whole, runs)
    print(f"\n{model} {found['shortened'] or 'in whole runs'}; seeds {seeds}")
    print(f"{found['data']}; {found['hardware']}\n\n{ablation.table(found)}")
    return {"command": command, **found}


def _chosen(numbers: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return the names of the variants with these numbers, from 1; all names if there are none."""
    if not set(numbers) <= set(range(1, len(names) + 1)):
        listed = "; ".join(f"{number} {name}" for number, name in enumerate(names, 1))
        raise UserError(f"--only {','.join(map(str, numbers))}: expected numbers from: {listed}")
    return [names[number - 1] for number in numbers] or list(names)
