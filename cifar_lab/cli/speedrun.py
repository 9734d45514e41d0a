"""``cifar-lab speedrun``: the accuracy that a recipe reaches in some time."""

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
    max_epochs: list[PositiveInt] = setting([], "lengths of the runs, such as 12,25 [the recipe's]")
    tta: Literal["flip", "flip_shift", "flip_grid"] = setting(
        "flip_shift", "views of the second accuracy, as evaluate takes them"
    )
    log_dir: Path = setting(Path("lightning_logs/speedrun"), "folder of the runs")
    output: Path | None = setting(None, "write the numbers to this file too, as JSON")
    figure: Path | None = setting(None, "draw accuracy against time (.svg, .png, .pdf)")
    json: bool = setting(False, "print JSON, and nothing else")


COMMAND = Command(
    "speedrun",
    "Trains a recipe on all training images with several seeds and reads the test set at the end\n"
    "alone. Prints accuracy, that of the mean of several views of each image, and seconds of\n"
    "training, with means over the seeds. With --max_epochs 12,25,50 it prints a row for each\n"
    "length: accuracy against time. Any other flag goes to every run, as cifar-lab fit takes it.\n"
    "Runs that --log_dir holds already are not run again.\n\n"
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
    """Return the command that repeats this elsewhere: without a folder of this machine."""
    flags = {"recipe": options.recipe, "seeds": ",".join(map(str, options.seeds))}
    if options.max_epochs:
        flags["max_epochs"] = ",".join(map(str, options.max_epochs))
    others = {n: value for n, value in given.items() if n not in ("data_dir", "source")}
    images = {"data_dir": data} if data else {"source": "synthetic"}
    flags = {**flags, "tta": options.tta, **others, **images}
    return command_line("speedrun", [w for n, value in flags.items() for w in (f"--{n}", value)])
