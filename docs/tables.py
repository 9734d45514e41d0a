"""Writes the tables of the pages and the recipes' headers: ``python docs/tables.py``.

The numbers are those of the JSON files beside this one, which the programs wrote that measured
them. A test fails where a page says anything else.
"""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from cifar_lab.experiments import ablation, speedrun_page
from cifar_lab.experiments.report_page import interval_text, markdown
from cifar_lab.experiments.tables import (
    last_quarter,
    mean_and_deviation,
    seed_range,
    time_range,
    unpaired,
)
from cifar_lab.recipes import recipes

DOCS = Path(__file__).parent
README, RECIPES = DOCS.parent / "README.md", DOCS.parent / "cifar_lab" / "recipes"
MEASURED_HERE = re.compile(r"# Here: .*?--seed N\n", re.DOTALL)


def measured(name: str) -> Any:
    """Return what a program wrote about its runs."""
    return json.loads((DOCS / name).read_text("utf-8"))


SYSTEMS = measured("results.json")["systems"]
SPEEDRUN_ROWS = [
    row for path in sorted(DOCS.glob("speedrun_*.json")) for row in measured(path.name)["rows"]
]


def _table(head: str, *rows: str) -> str:
    """Return a table of a page; cells are separated by bars."""
    return "\n".join(f"| {row} |" for row in (head, re.sub("[^|]+", " --- ", head).strip(), *rows))


def models() -> str:
    """Return the models with what they reached, what the report has, and how long that took."""
    rows = [(s["recipe"], s["best"], s["report"], interval_text(s), s["seconds"]) for s in SYSTEMS]
    rows += [(r["recipe"], r["accuracies"], None, "–", r["train_seconds"]) for r in SPEEDRUN_ROWS]
    lines = []
    for name, accuracies, report, interval, seconds in rows:
        mean = fmean(seconds)
        reported = f"{100 * report:.2f}" if report else "–"
        interval = interval if report else "–"
        time = f"{mean / 60:.0f} min" if mean >= 100 else f"{mean:.0f} s"
        cells = (f"`{name}`", recipes()[name].title, mean_and_deviation(accuracies))
        lines.append(" | ".join((*cells, reported, interval, time)))
    return _table(
        "recipe | what | accuracy (%) | report (%) | prediction interval (%) | time", *lines
    )


def settings() -> str:
    """Return the settings of the recipes that tell most."""
    lines = []
    for row in (*SYSTEMS, *SPEEDRUN_ROWS):
        recipe = recipes()[row["recipe"]]
        at = recipe.settings
        length = f"{at['max_steps']:,}" if at.get("max_steps") else f"{at['max_epochs']} epochs"
        cells = (
            f"`{recipe.name}`",
            f"`{recipe.model}`",
            f"{at.get('optimizer', 'sgd')}, {at['lr']:g}",
        )
        lines.append(" | ".join((*cells, str(at["batch_size"]), length)))
    return _table("recipe | model | optimizer, learning rate | batch | steps", *lines)


def plain_loops() -> str:
    """Return the systems beside plain PyTorch loops of the same settings."""
    lines = []
    for recipe, curves in measured("plain_loops.json")["loops"].items():
        system = next(s for s in SYSTEMS if s["recipe"] == recipe)
        late = [last_quarter(curve["steps"], curve["accuracies"]) for curve in curves.values()]
        best = [max(curve["accuracies"]) for curve in curves.values()]
        cells = [f"`{recipe}`", *_compared(system["last_quarter"], late)]
        lines.append(" | ".join([*cells, *_compared(system["best"], best)]))
    late_heads, best_heads = (
        f"{what}, package | plain loop | difference" for what in ("last quarter", "best point")
    )
    return _table(f"recipe | {late_heads} | {best_heads}", *lines)


def jpeg_cost() -> str:
    """Return the systems beside their training on images that were compressed once more."""
    lines = []
    for again in measured("results_recompressed.json")["systems"]:
        system = next(s for s in SYSTEMS if s["recipe"] == again["recipe"])
        cells = _compared(again["last_quarter"], system["last_quarter"])
        lines.append(" | ".join([f"`{again['recipe']}`", cells[1], cells[0], cells[2]]))
    return _table("recipe | the copy | compressed once more | difference", *lines)


def _compared(values: Sequence[float], base: Sequence[float]) -> list[str]:
    """Return both means with their deviations, and their difference with its 95 % interval."""
    difference, half = unpaired(values, base)
    texts = [f"{mean_and_deviation(v)} ({len(v)})" for v in (values, base)]
    return [*texts, f"{100 * difference:+.2f} ± {100 * half:.2f}"]


def tables() -> dict[tuple[Path, str], str]:
    """Return each table by its page and the name in the comment before it."""
    gpu_rows = [row for speedrun in measured("gpu_speedruns.json") for row in speedrun["rows"]]
    results, speed = DOCS / "results.md", DOCS / "speed.md"
    return {
        (README, "models"): models(),
        (results, "results"): markdown(measured("results.json")),
        (results, "plain"): plain_loops(),
        (results, "jpeg"): jpeg_cost(),
        (results, "speedrun"): speedrun_page.table(SPEEDRUN_ROWS),
        (results, "recipes"): settings(),
        (speed, "speedrun"): speedrun_page.table(SPEEDRUN_ROWS),
        (speed, "gpu"): speedrun_page.table(gpu_rows),
        (speed, "curve"): speedrun_page.table(measured("curve_fast_mlp.json")["rows"]),
        (speed, "ablation"): ablation.table(measured("ablation_fast_mlp.json")),
    }


def measured_here(system: Mapping[str, Any]) -> str:
    """Return what the recipe of a system says about its runs."""
    recipe = recipes()[system["recipe"]]
    best, late, last = (mean_and_deviation(system[n]) for n in ("best", "last_quarter", "last"))
    seeds, time = seed_range(system["seeds"]), time_range(system["seconds"])
    variant = "" if recipe.name == recipe.model else f" --recipe {recipe.name}"
    command = f"--model {recipe.model}{variant} --val_size 0 --seed N".replace(
        " ", "\N{NO-BREAK SPACE}"
    )
    text = (
        f"Here: {best} % (best point; prediction interval {interval_text(system)} %), {late} % "
        f"(mean of the last quarter), {last} % (last point), mean and standard deviation of seeds "
        f"{seeds}; CIFAR-10 (JPEG copy); {time} on {'; '.join(system['devices'])}: {command}"
    )
    lines = textwrap.wrap(text, 98, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in lines).replace("\N{NO-BREAK SPACE}", " ")


def pages() -> dict[Path, str]:
    """Return each page and recipe with the text that it should have."""
    found: dict[Path, str] = {}
    for (path, name), table in tables().items():
        text = found.get(path) or path.read_text("utf-8")
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert end, f"{path}: no place for {name}"
        found[path] = f"{before}{start}{table}\n{end}{after}"
    for system in SYSTEMS:
        path = RECIPES / f"{system['recipe']}.yaml"
        text, count = MEASURED_HERE.subn(measured_here(system), path.read_text("utf-8"))
        assert count == 1, path
        found[path] = text
    return found


def main() -> None:
    """Write the pages and recipes that differ, and print their paths."""
    for path, text in pages().items():
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(path)


if __name__ == "__main__":
    main()
