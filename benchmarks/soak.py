"""Kill and resume runs again and again: ``python benchmarks/soak.py --help``.

Nothing heavy is imported before the flags are parsed.
"""

from __future__ import annotations

import random
import shlex
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.output import print_json, writing
from cifar_lab.cli.parser import Command, split_words
from cifar_lab.errors import FAILED, UserError
from cifar_lab.files import write_json
from cifar_lab.recipes import Recipe, find_recipe, models, recipes
from cifar_lab.recipes.own_model import is_own_model
from cifar_lab.run_settings import RUN
from cifar_lab.settings import NonNegativeInt, PositiveFloat, PositiveInt, Seed, setting, unknown
from program import run

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)  # drawn at random
TWO = {"devices": 2, "accelerator": "cpu"}
MODES: dict[str, dict[str, Any]] = {  # kinds of a run, and their flags
    "one": {},
    "devices": TWO,
    "torchrun": TWO,
    "seeds": {"seeds": "0,1"},
}
ATTEMPTS = 4  # at a kill, each at half the time of the one before
LENGTHS = ("max_steps", "max_epochs")
COUNTS = ("kills", "written", "cut_off", "unreadable")  # what KilledRun.counts returns


@dataclass(frozen=True)
class Options:
    """The flags of the trials, apart from those of the data."""

    model: list[str] = setting(["mlp"], "models, recipes or module:Class; all: all models")
    modes: list[str] = setting(["one"], f"kinds of run, any of {', '.join(MODES)}")
    kills: PositiveInt = setting(10, "number of kills, over all trials")
    max_steps: NonNegativeInt = setting(500, "number of optimizer steps; 0: no such trials")
    max_epochs: NonNegativeInt = setting(0, "number of epochs; 0: no such trials")
    checkpoint_seconds: PositiveFloat = setting(0.5, "seconds between checkpoints")
    seed: Seed = setting(0, "random seed for the times of the kills")
    flags: str = setting("", "more flags of fit, as --flags='--lr 1', for models that have them")
    output: Path | None = setting(None, "folder for the runs and soak.json (else they are removed)")
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "soak",
    "Trains each model, for each length and mode, twice: once undisturbed, and once killed at\n"
    "random times and resumed each time. Half of the kills use SIGKILL, the others SIGINT or\n"
    "SIGTERM; one comes while a checkpoint is written. Then weights, optimizer and curves are\n"
    "compared bit by bit. The modes: one process; devices: two by --devices 2; torchrun: two as\n"
    "it starts them; seeds: two runs by --seeds 0,1. Exit status: 0 the same, 1 a difference or\n"
    "a run that could not be resumed, 2 wrong input, 130 interrupted.",
    Options,
    shared=("data_dir", "source"),
    example="--model all --modes one,devices --max_steps 60 --max_epochs 3 --kills 200",
)


@dataclass(frozen=True)
class Trial:
    """A model that is trained undisturbed and killed."""

    model: str
    length: str  # a name of LENGTHS
    mode: str
    words: list[str]  # flags of both runs
    kills: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trial; return the exit status.

    Args:
        argv: command-line arguments; the default is those of the process.
    """
    return run(COMMAND, _run, argv)


def _run(words: Sequence[str]) -> int:
    options, given = COMMAND.parse(words)
    command = shlex.join(["benchmarks/soak.py", *words])
    found = print_json(options.json, lambda: _compare(options, given, command))
    return 0 if all(trial["same"] for trial in found["trials"]) else FAILED


def _compare(options: Any, given: Mapping[str, str], command: str) -> dict[str, Any]:
    trials = list(_trials(options, given))
    if not options.output:
        with tempfile.TemporaryDirectory(prefix="soak_") as folder:
            return _soak_all(options, trials, Path(folder), command)
    with writing("--output", options.output):
        options.output.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="soak_", dir=options.output)
    return _soak_all(options, trials, Path(folder), command)


def _trials(options: Any, given: Mapping[str, str]) -> Iterator[Trial]:
    """Yield the trials, which share the kills; leave out trials without a kill."""
    names = models() if options.model == ["all"] else options.model
    if wrong := [mode for mode in options.modes if mode not in MODES]:
        raise UserError(unknown("--modes", wrong[0], MODES))
    kinds = [
        (name, length, mode)
        for name in names
        for length in LENGTHS
        for mode in options.modes
        # numpy_mlp refuses several processes.
        if getattr(options, length) and not (name == "numpy_mlp" and "devices" in MODES[mode])
    ]
    for number, (name, length, mode) in enumerate(kinds):
        kills = (options.kills - number - 1) // len(kinds) + 1
        if kills:
            words = _words(options, {**MODES[mode], **given}, name, length)
            yield Trial(name, length, mode, words, kills)


def _words(options: Any, given: Mapping[str, Any], name: str, length: str) -> list[str]:
    """Return the flags of both runs of a trial."""
    is_own = is_own_model(name)
    told = {"model": "--model", "recipe": "--model"}
    recipe = find_recipe(None if is_own else name, name if is_own else None, told)
    flags = {
        "model" if is_own else "recipe": name,
        length: getattr(options, length),
        "progress": "none",
        "checkpoint_minutes": options.checkpoint_seconds / 60,
        **given,
        **_further(options.flags, recipe),
    }
    return [f"--{name}={value}" for name, value in flags.items()]


def _further(flags: str, recipe: Recipe) -> dict[str, str]:
    """Return the additional flags, without those of other models."""
    try:
        words = shlex.split(flags)
    except ValueError as error:
        raise UserError(f"--flags {flags}: {error}") from error
    of_models = {name: entry for other in recipes().values() for name, entry in other.own.items()}
    given = split_words(words, of_models | RUN, False)[1]
    others = of_models.keys() - RUN.keys() - recipe.own.keys()
    return {name: value for name, value in given.items() if name not in others}


def _soak_all(options: Any, trials: Sequence[Trial], folder: Path, command: str) -> dict[str, Any]:
    from cifar_lab.run.summary import versions

    found: dict[str, Any] = {"command": command, "versions": versions(), "trials": []}
    for number, trial in enumerate(trials):
        title = f"{trial.model}, {trial.length}, {trial.mode}"
        print(f"\n--- {number + 1} of {len(trials)}: {title}", flush=True)
        results = _soak(options, trial, folder / str(number))
        found["trials"].append({"model": trial.model, "length": trial.length, **results})
        _print(results)
        if options.output:
            write_json(options.output / "soak.json", found)
    print(f"\n{table(found['trials'])}")
    return found


def _soak(options: Any, trial: Trial, folder: Path) -> dict[str, Any]:
    from cifar_lab.run.run import runs
    from killed_run import TOO_LATE, KilledRun, differences

    folder.mkdir()
    whole = KilledRun(trial.words, folder / "whole", trial.mode)
    seconds = whole.finish()
    if whole.failures:
        raise UserError(whole.failures[0])
    told = "undisturbed: {:.0f} s until it is open, {:.0f} s until step 1, {:.0f} s until its end"
    print(told.format(*seconds), flush=True)
    undisturbed = _by_seed(runs(folder / "whole"))
    device = next(iter(undisturbed.values())).summary["device"]
    # A run that is killed at its start would choose the precision for "auto" again.
    words = [*trial.words, f"--precision={device['precision']}"]
    killed = [KilledRun(words, folder / "killed_0", trial.mode)]
    moments = random.Random(f"{options.seed} {trial.model} {trial.length} {trial.mode}")
    earlier = 1.0  # factor of the delays
    for number, delay in enumerate(_delays(moments, trial.kills, *seconds)):
        while_writing = number == trial.kills // 4 * 2
        sent = signal.SIGKILL if while_writing else moments.choice(SIGNALS)
        for _ in range(ATTEMPTS):
            moment = delay * earlier, while_writing, sent, delay >= 0 and number % 2 == 1
            told = killed[-1].run_and_kill(*moment)
            if told != TOO_LATE:
                break
            killed.append(KilledRun(words, folder / f"killed_{len(killed)}", trial.mode))
            earlier /= 2
        print(f"kill {number + 1}, {sent.name}: {told}", flush=True)
    killed[-1].finish()
    found = [failure for run in killed for failure in run.failures]
    for number in range(len(killed) if not found else 0):
        resumed = _by_seed(runs(folder / f"killed_{number}"))
        found += [line for s, run in undisturbed.items() for line in differences(run, resumed[s])]
    counts = sum((Counter(run.counts()) for run in killed), Counter())
    return {
        "mode": trial.mode,
        "hardware": device["name"],
        "precision": device["precision"],
        "runs": len(killed),
        **{name: counts[name] for name in COUNTS},
        "differences": found,
        "same": not found and not counts["unreadable"],
    }


def _by_seed(found: Sequence[Any]) -> dict[int, Any]:
    """Return the finished runs by their seeds."""
    return {run.summary["seed"]: run for run in found if run.finished}


def _delays(
    moments: random.Random, kills: int, opening: float, starting: float, training: float
) -> list[float]:
    """Return the moments of the kills, as ``KilledRun.run_and_kill`` takes them.

    Most kills come during the steps or shortly before; every second delay starts at a checkpoint.
    Every fifth kill comes before the run is opened, when it must not be changed at all. The last
    arguments are the durations of the phases of the undisturbed run, in seconds.
    """
    longest = 1.2 * training / kills
    delays = [max(0.0, starting + moments.uniform(-0.2, 1) * longest) for _ in range(kills)]
    delays[1::2] = [moments.uniform(0, longest) for _ in delays[1::2]]
    delays[3::5] = [-moments.uniform(0, opening) for _ in delays[3::5]]
    return delays


def table(trials: Sequence[Mapping[str, Any]]) -> str:
    """Return the numbers of kills by model and mode as a table in Markdown."""
    from cifar_lab.experiments.tables import markdown_table

    modes, rows = dict.fromkeys(trial["mode"] for trial in trials), []
    for model in dict.fromkeys(trial["model"] for trial in trials):
        row = {"model": f"`{model}`"}
        for mode in modes:
            found = [t["kills"] for t in trials if (t["model"], t["mode"]) == (model, mode)]
            row[mode] = str(sum(found)) if found else "–"
        of_model = [trial for trial in trials if trial["model"] == model]
        row["the same bits"] = f"{sum(trial['same'] for trial in of_model)} of {len(of_model)}"
        rows.append(row)
    return markdown_table(rows)


def _print(found: Mapping[str, Any]) -> None:
    print(
        f"\n{found['kills']} kills survived; {found['written']} checkpoints seen, "
        f"{found['cut_off']} cut off while written, {found['unreadable']} unreadable"
    )
    print("weights, optimizer and curves are the same" if found["same"] else "NOT the same:")
    for line in found["differences"]:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
