"""``cifar-lab speedrun``: measure a recipe's accuracy against its training time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cifar_lab.cli.main import command_line
from cifar_lab.cli.output import check_figure, check_writable, writing
from cifar_lab.cli.parser import STUDY_STATUSES, Command, plan_of
from cifar_lab.errors import UserError
from cifar_lab.settings import PositiveInt, Seed, setting


@dataclass(frozen=True)
class _Options:
    recipe: str = setting("fast_cnn", "recipe to train")
    seeds: list[Seed] = setting([0, 1, 2], "seeds of the runs")
    max_epochs: list[PositiveInt] = setting([], "epochs to train for, such as 12,25 [the recipe's]")
    tta: Literal["flip", "flip_shift", "flip_grid"] = setting(
        "flip_shift", "test-time augmentation of the second accuracy; see evaluate"
    )
    log_dir: Path = setting(Path("lightning_logs/speedrun"), "folder for the runs")
    output: Path | None = setting(None, "also write the numbers to this file, as JSON")
    figure: Path | None = setting(None, "plot accuracy against time (.svg, .png, .pdf)")
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "speedrun",
    "Trains a recipe on all training images with several seeds, and tests each run only at its\n"
    "end. Prints the accuracy, the accuracy with test-time augmentation, and the seconds of\n"
    "training, with means over the seeds. --max_epochs 12,25,50 prints a row for each length:\n"
    "accuracy against time. All other flags of cifar-lab fit apply to every run. Runs that\n"
    "--log_dir already holds are not repeated.\n\n"
    f"{STUDY_STATUSES}continues.",
    _Options,
    shared=("accelerator", "precision", "threads", "data_dir", "source"),
    plan=True,
    results=True,
    example="--recipe fast_mlp --tta flip_grid",
)
INTERRUPTED_NOTE = "Interrupted; the same command continues."


def run(options: Any, given: Mapping[str, str], command: str) -> dict[str, Any]:
    """Run the command; return its results."""
    from cifar_lab.data.image_set import DESCRIPTIONS
    from cifar_lab.experiments.speedrun import PROTOCOL, speedrun
    from cifar_lab.experiments.speedrun_page import draw, table
    from cifar_lab.files import write_json

    if "seed" in given:
        raise UserError(f"--seed {given['seed']}: the runs have the seeds of --seeds")
    if options.max_epochs and "max_steps" in given:
        raise UserError(f"--max_steps {given['max_steps']} and --max_epochs: give one of them")
    own = {"recipe": options.recipe, "log_dir": str(options.log_dir)}
    plan = plan_of({**given, **own}, before=PROTOCOL)
    check_writable("--output", options.output)
    check_figure("--figure", options.figure)
    found = speedrun(plan, options.seeds, options.max_epochs, options.tta, command)
    found = {"command": _repeat(options, given, found["data"]), **found}
    images = found["data"] or DESCRIPTIONS["synthetic"]
    print(f"\n{images}, fingerprint {found['fingerprint']}\n\n{table(found['rows'])}")
    if options.output:
        with writing("--output", options.output):
            write_json(options.output, found)
    if options.figure:
        with writing("--figure", options.figure):
            draw(found["rows"], options.figure)
    return found


def _repeat(options: Any, given: Mapping[str, str], data: str) -> str:
    """Return the command that repeats this elsewhere, without paths of this machine."""
    flags = {"recipe": options.recipe, "seeds": ",".join(map(str, options.seeds))}
    if options.max_epochs:
        flags["max_epochs"] = ",".join(map(str, options.max_epochs))
    others = {n: value for n, value in given.items() if n not in ("data_dir", "source")}
    images = {"data_dir": data} if data else {"source": "synthetic"}
    flags = {**flags, "tta": options.tta, **others, **images}
    return command_line("speedrun", [w for n, value in flags.items() for w in (f"--{n}", value)])
