"""The README says what the package does: its commands, its models, its flags."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.recipes import Recipe, recipes
from cifar_lab.report.results import mean_and_deviation, read
from cifar_lab.report.table import markdown
from cifar_lab.settings import FitSettings
from cifar_lab.studies import ablation
from cifar_lab.studies.speedrun import table, views_of

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
README = (ROOT / "README.md").read_text("utf-8")


def _block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\n(.*?)\n```\n<!-- end -->", README, re.DOTALL)
    assert found, name
    return found[1]


@pytest.mark.parametrize(
    ("name", "end"),
    [("train", "scripts/fit.py --model cnn"), ("test", "python -m pytest")],
)
def test_a_command_is_one_line_with_its_own_virtual_environment(name: str, end: str) -> None:
    command = _block(name)
    assert "\n" not in command
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -e ")
    assert command.endswith(end)


def help_of(script: Path) -> str:
    """What ``--help`` prints."""
    words = [sys.executable, str(script), "--help"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_is_named_and_helps_without_anything_heavy(script: Path) -> None:
    assert f"scripts/{script.name}" in README
    assert "usage: " in help_of(script)
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), "--help"],
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    assert "cifar_lab.command_line" in loaded or "cifar_lab.cli" in loaded
    for heavy in ("torch", "numpy", "matplotlib", "pytorch_lightning"):
        assert not re.search(rf"\| +{heavy}\n", loaded), heavy


def _row(recipe: Recipe) -> str:
    settings = recipe.settings
    report = "–" if recipe.report_accuracy is None else f"{100 * recipe.report_accuracy:.2f} %"
    optimizer = f"{settings.get('optimizer', 'sgd')}, {settings['lr']:g}"
    cells = (f"`{recipe.model}`", f"`{recipe.name}`", recipe.title, optimizer)
    length = (
        f"{settings['max_steps']:,}"
        if settings.get("max_steps")
        else f"{settings['max_epochs']} epochs"
    )
    return "| " + " | ".join([*cells, f"{settings['batch_size']}", length, report]) + " |"


@pytest.mark.parametrize("name", recipes())
def test_the_table_of_models_is_that_of_the_recipes(name: str) -> None:
    assert _row(recipes()[name]) in README


def test_the_flags_that_it_names_exist() -> None:
    known = {field.name for field in fields(FitSettings)}
    known |= {name for recipe in recipes().values() for name in recipe.settings}
    known |= {"help", "config", "print_config", "logdir"}
    known |= {"dnn_hidden_units", "learning_rate", "eval_freq"}
    known |= {"no", "find"}  # pip's --no-index and --find-links
    for script in SCRIPTS:
        known |= set(re.findall(r"--([a-z_]+)", help_of(script)))
    assert set(re.findall(r"--([a-z_]+)", README)) <= known


def test_the_files_that_it_names_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


RESULTS = read(ROOT / "docs" / "results.json")


def test_the_table_of_results_is_that_of_the_measured_runs() -> None:
    found = re.search(r"<!-- results -->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert found
    assert found[1] == markdown(RESULTS)


@pytest.mark.parametrize("system", RESULTS["systems"], ids=lambda system: system["recipe"])
def test_the_reference_runs_are_those_of_the_table(system: dict[str, Any]) -> None:
    folder = ROOT / "lightning_logs" / "reference" / system["recipe"]
    assert {path.name for path in folder.iterdir()} == {f"seed_{n}" for n in system["seeds"]}
    for seed, best, last in zip(system["seeds"], system["best"], system["last"], strict=True):
        events = EventAccumulator(str(folder / f"seed_{seed}"), {"scalars": 0})
        events.Reload()
        points = [event.value for event in events.Scalars("acc/test")]
        assert (max(points), points[-1]) == pytest.approx((best, last), abs=1e-6)


@pytest.mark.slow
def test_the_example_in_python_runs(tree: Path) -> None:
    found = re.search(r"```python\n(.*?)\n```", README, re.DOTALL)
    assert found
    training, _, use = found[1].partition("# A run of")
    training = training.replace("max_steps=100", "max_steps=1, accelerator='cpu', logger=False")
    training = training.replace("batch_size=32", f"{str(tree)!r}, batch_size=32")
    names: dict[str, Any] = {}
    exec(training.replace("CNN()", "CNN(num_classes=3)"), names)
    path = re.search(r'load_from_checkpoint\("(.*?)"\)', use)
    assert path
    names["trainer"].save_checkpoint(path[1])
    exec(f"#{use}", names)
    assert names["logits"].shape == (2, 3)


@pytest.mark.parametrize("system", RESULTS["systems"], ids=lambda system: system["recipe"])
def test_a_recipe_says_the_same_as_the_table(system: dict[str, Any]) -> None:
    path = ROOT / "cifar_lab" / "recipes" / f"{system['recipe']}.yaml"
    header = " ".join(path.read_text("utf-8").partition("\ntitle:")[0].replace("#", "").split())
    best, last = (mean_and_deviation(system[point]) for point in ("best", "last"))
    assert f"Here: {best} % (best point), {last} % (last)" in header


# Of scripts/speedrun.py --output, a file a recipe.
SPEEDRUNS = [json.loads(path.read_text()) for path in sorted((ROOT / "docs").glob("speedrun_*"))]


@pytest.mark.parametrize("page", ["README.md", "docs/speed.md"])
def test_the_table_of_the_fast_recipes_is_that_of_the_measured_runs(page: str) -> None:
    found = re.search(
        r"<!-- speedrun -->\n(.*?)\n<!-- end -->", (ROOT / page).read_text("utf-8"), re.DOTALL
    )
    assert found
    assert found[1] == table([row for speedrun in SPEEDRUNS for row in speedrun["rows"]])


def test_the_table_of_the_gpu_is_that_of_the_measured_runs() -> None:
    page = (ROOT / "docs" / "speed.md").read_text("utf-8")
    found = re.search(r"<!-- gpu -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    speedruns = json.loads((ROOT / "docs" / "gpu_speedruns.json").read_text())
    rows = [row for speedrun in speedruns for row in speedrun["rows"]]
    assert found
    assert found[1] == table(rows)
    for row in rows:
        told = f"in {fmean(row['train_seconds']):.1f} s, to {mean_and_deviation(row['accuracies'])}"
        assert told in " ".join(README.split())


def test_the_table_of_accuracy_against_time_is_that_of_the_measured_runs() -> None:
    page = (ROOT / "docs" / "speed.md").read_text("utf-8")
    found = re.search(r"<!-- curve -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    rows = json.loads((ROOT / "docs" / "curve_fast_mlp.json").read_text())["rows"]
    assert found
    assert found[1] == table(rows)
    assert len({row["epochs"] for row in rows}) == len(rows) >= 4


def test_the_table_of_the_ablation_is_that_of_the_measured_runs() -> None:
    page = (ROOT / "docs" / "speed.md").read_text("utf-8")
    found = re.search(r"<!-- ablation -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert found
    assert found[1] == ablation.table(
        json.loads((ROOT / "docs/ablation_fast_mlp.json").read_text())
    )


def test_the_recipes_made_for_speed_say_the_same_as_their_table() -> None:
    rows = [row for speedrun in SPEEDRUNS for row in speedrun["rows"]]
    length = {name: recipe.settings.get("max_epochs") for name, recipe in recipes().items()}
    own = {row["recipe"]: row for row in rows if row["epochs"] == length[row["recipe"]]}
    assert set(own) == {"fast_cnn", "fast_mlp"}
    for name, row in own.items():
        path = ROOT / "cifar_lab" / "recipes" / f"{name}.yaml"
        header = " ".join(path.read_text("utf-8").partition("\ntitle:")[0].replace("#", "").split())
        plain, views = map(mean_and_deviation, (row["accuracies"], row["accuracies_of_views"]))
        told = f"Here: {plain} % on the test set, {views} % as the mean of {views_of(row)} views"
        assert told in header
        assert f"{fmean(row['train_seconds']):,.0f} s on " in header


def test_every_recipe_says_what_was_measured_on_which_data_or_that_nothing_was() -> None:
    for path in (ROOT / "cifar_lab" / "recipes").glob("*.yaml"):
        header = " ".join(path.read_text("utf-8").partition("\ntitle:")[0].replace("#", "").split())
        figure, source, command = (
            r"Here: \d\d\.\d+ ",
            r"seed.*JPEG copy",
            "--model .*--val_size 0",
        )
        measured = re.search(f"{figure}.*{source}.* (s|min) on .*{command}", header)
        assert measured or header.endswith("Not measured here yet."), path
