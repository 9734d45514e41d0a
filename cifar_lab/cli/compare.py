"""``cifar-lab compare``: test whether one run, or group of runs, is better than another."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cifar_lab.cli.output import check_writable, writing
from cifar_lab.cli.parser import OWN_MODEL, Command, images_at_a_time
from cifar_lab.errors import UserError
from cifar_lab.settings import Setting, setting


@dataclass(frozen=True)
class _Options:
    split: Literal["test", "val"] = setting(
        "test", "test: the best checkpoint, else the last evaluation; val: the best evaluation"
    )
    output: Path | None = setting(
        None, "folder that gets the table and a figure as compare.html, PNG and SVG"
    )
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "compare",
    "Compares the accuracies of groups of finished runs with those of the first group. A group is\n"
    "the folder of a run, the folder of a model with a run for each seed, or several of these\n"
    "separated by commas. Prints each difference with its 95 % interval over the seeds, paired\n"
    "where both groups have the same seeds, and whether it is significant. Two single runs are\n"
    "also compared image by image, by McNemar's exact test of their checkpoints.\n\n"
    "Exit status: 0 done, 1 out of memory, 2 wrong input, 130 interrupted.",
    _Options,
    positionals=(Setting("runs", str, [], "two or more groups of runs", "arguments"),),
    shared=(OWN_MODEL, "accelerator", images_at_a_time(500), "data_dir"),
    results=True,
    example="lightning_logs/mlp lightning_logs/deep_mlp",
)


def run(options: Any, given: Mapping[str, str], command: str) -> dict[str, Any]:
    """Run the command; return its results."""
    from cifar_lab.experiments import comparison
    from cifar_lab.experiments.comparison_page import write_page

    check_writable("--output", options.output and options.output / "compare.html")
    groups = [comparison.open_group(name, options.split) for name in options.runs]
    if len(groups) < 2:
        raise UserError("RUNS: expected at least two groups of runs")
    comparison.check_images(groups)
    base, *others = groups
    rows = [{"name": group.name, "accuracies": group.accuracies} for group in groups]
    found: dict[str, Any] = {"command": command, "split": options.split, "groups": rows}
    print(f"accuracy on the {options.split} split")
    for group in groups:
        print(f"  {comparison.describe_group(group)}")
    found["differences"] = [_difference(options, base, other) for other in others]
    if options.output:
        with writing("--output", options.output / "compare.html"):
            page = write_page(groups, found["differences"], options.output, command)
        print(f"\npage: {page}")
        found["files"] = [str(page)]
    return found


def _difference(options: Any, base: Any, other: Any) -> dict[str, Any]:
    from cifar_lab.experiments import comparison

    found = comparison.difference(base, other)
    print(f"\n{other.name} against {base.name}\n  {comparison.describe_difference(found)}")
    if len(base.runs) == len(other.runs) == 1:
        first, second = (_recognised(options, group) for group in (base, other))
        test = comparison.mcnemar(first, second)
        print(
            f"  {len(first):,} images: {test['only_first']:,} right only for the first, "
            f"{test['only_second']:,} only for the second; McNemar's exact p = {test['p']:.2g}"
        )
        found["mcnemar"] = {"images": len(first), **test}
    return {"name": other.name, **found}


def _recognised(options: Any, group: Any) -> Any:
    """Return whether the model of a single run is right for each image of the split, bool (N,)."""
    from cifar_lab.inference.known_data import data_dir_of_run, load_split
    from cifar_lab.inference.logits import split_logits
    from cifar_lab.run.restore import load_model

    (run,) = group.runs.values()
    path = run.checkpoint("best")
    model = load_model(path, options.accelerator, options.model)
    data_dir = options.data_dir or data_dir_of_run(path)
    known = load_split(model, options.split, data_dir, "auto")
    logits, labels = split_logits(model, known, options.batch_size, "none")
    return (logits.argmax(1) == labels).numpy()
