"""``cifar-lab study-initialisation``: show why the lab report's two MLPs differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.output import check_figure, writing
from cifar_lab.cli.parser import STUDY_STATUSES, Command, plan_of
from cifar_lab.errors import UserError
from cifar_lab.settings import Seed, setting


@dataclass(frozen=True)
class _Options:
    seeds: list[Seed] = setting([0, 1, 2, 3, 4], "seeds of the runs")
    log_dir: Path = setting(Path("lightning_logs/initialisation"), "folder for the runs")
    output: Path = setting(Path("initialisation.svg"), "file for the figure (.svg, .png, .pdf)")


COMMAND = Command(
    "study-initialisation",
    "Trains the lab report's MLP with its two initialisations and, one change at a time, with\n"
    "other learning rates, optimizers and input scales. Draws the figure and prints the tables\n"
    "of docs/initialisation.md. All other flags of cifar-lab fit apply to every run. Runs that\n"
    "--log_dir already holds are not repeated.\n\n"
    f"{STUDY_STATUSES}continues.",
    _Options,
    shared=("data_dir",),
    plan=True,
    example="--seeds 0 --output figure.svg",
)
INTERRUPTED_NOTE = "Interrupted; the same command continues."


def run(options: Any, given: Mapping[str, str], command: str) -> int:
    """Run the command; return its exit status."""
    if "seed" in given:
        raise UserError(f"--seed {given['seed']}: the runs have the seeds of --seeds")
    check_figure("--output", options.output)
    from cifar_lab.experiments.initialisation import PROTOCOL, VARIANTS, draw, probed_runs, tables

    given = {**given, "log_dir": str(options.log_dir)}
    plans = {n: plan_of(given, {**PROTOCOL, **v.settings}) for n, v in VARIANTS.items()}
    runs = probed_runs(plans, options.seeds, command)
    with writing("--output", options.output):
        draw(runs, options.output)
    print(tables(runs))
    print(f"\nfigure: {options.output}")
    return 0
