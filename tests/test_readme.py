"""The README says what the package does: its commands, its models, its flags."""

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.experiments import ablation
from cifar_lab.experiments.report_page import markdown
from cifar_lab.experiments.speedrun_page import table, views_of
from cifar_lab.experiments.tables import mean_and_deviation
from cifar_lab.plan import ALIASES, RUN
from cifar_lab.recipes import Recipe, recipes

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
README = (ROOT / "README.md").read_text("utf-8")
SPEED = (ROOT / "docs" / "speed.md").read_text("utf-8")


def _marked(name: str, page: str = README) -> str:
    """The part of a page between its two comments."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert found, name
    return found[1]


def _measured(name: str) -> Any:
    """What a program wrote about its runs."""
    return json.loads((ROOT / "docs" / name).read_text("utf-8"))


def _header(recipe: str) -> str:
    """The comment at the top of a recipe."""
    text = (ROOT / "cifar_lab" / "recipes" / f"{recipe}.yaml").read_text("utf-8")
    return " ".join(text.partition("\ntitle:")[0].replace("#", "").split())


def test_a_command_is_one_line_with_its_own_virtual_environment() -> None:
    start = r"```\npython3 -m venv \.venv && \.venv/bin/pip install -e "
    ends = {"train": r"scripts/fit\.py --model cnn", "test": "python -m pytest -n auto"}
    for name, end in ends.items():
        assert re.fullmatch(rf"{start}.*{end}\n```", _marked(name))


def test_every_script_is_named() -> None:
    for script in SCRIPTS:
        assert f"scripts/{script.name}" in README


def _row(recipe: Recipe) -> str:
    settings = recipe.settings
    report = "–" if recipe.report_accuracy is None else f"{100 * recipe.report_accuracy:.2f} %"
    optimizer = f"{settings.get('optimizer', 'sgd')}, {settings['lr']:g}"
    cells = (f"`{recipe.model}`", f"`{recipe.name}`", recipe.title, optimizer)
    steps = settings.get("max_steps")
    length = f"{steps:,}" if steps else f"{settings['max_epochs']} epochs"
    return "| " + " | ".join([*cells, f"{settings['batch_size']}", length, report]) + " |"


@pytest.mark.parametrize("name", recipes())
def test_the_table_of_models_is_that_of_the_recipes(name: str) -> None:
    assert _row(recipes()[name]) in README


def test_the_flags_that_it_names_exist() -> None:
    known = {*RUN, *ALIASES} | {name for recipe in recipes().values() for name in recipe.settings}
    known |= {"help", "config", "print_config", "logdir", "version"}
    known |= {"no", "find"}  # pip's --no-index and --find-links
    for program in (*SCRIPTS, ROOT / "benchmarks/benchmark.py", ROOT / "benchmarks/soak.py"):
        words = [sys.executable, str(program), "--help"]
        text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        known |= set(re.findall(r"--([a-z_]+)", text))
    assert set(re.findall(r"--([a-z_]+)", README)) <= known


def test_the_files_that_it_names_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


RESULTS = _measured("results.json")


@pytest.mark.parametrize("system", RESULTS["systems"], ids=lambda system: system["recipe"])
def test_the_reference_runs_are_those_of_the_table(system: dict[str, Any]) -> None:
    folder = ROOT / "docs" / "reference_runs" / system["recipe"]
    assert {path.name for path in folder.iterdir()} == {f"seed_{n}" for n in system["seeds"]}
    for seed, best, last in zip(system["seeds"], system["best"], system["last"], strict=True):
        events = EventAccumulator(str(folder / f"seed_{seed}" / "test"), {"scalars": 0})
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
    best, last = (mean_and_deviation(system[point]) for point in ("best", "last"))
    assert f"Here: {best} % (best point), {last} % (last)" in _header(system["recipe"])


# Of scripts/speedrun.py --output, a file a recipe.
SPEEDRUNS = [path.name for path in sorted((ROOT / "docs").glob("speedrun_*"))]
SPEEDRUN_ROWS = [row for name in SPEEDRUNS for row in _measured(name)["rows"]]
GPU_ROWS = [row for speedrun in _measured("gpu_speedruns.json") for row in speedrun["rows"]]
CURVE_ROWS = _measured("curve_fast_mlp.json")["rows"]


@pytest.mark.parametrize(
    ("page", "name", "expected"),
    [
        (README, "results", markdown(RESULTS)),
        (README, "speedrun", table(SPEEDRUN_ROWS)),
        (SPEED, "speedrun", table(SPEEDRUN_ROWS)),
        (SPEED, "gpu", table(GPU_ROWS)),
        (SPEED, "curve", table(CURVE_ROWS)),
        (SPEED, "ablation", ablation.table(_measured("ablation_fast_mlp.json"))),
    ],
    ids=["results", "README", "speed", "gpu", "curve", "ablation"],
)
def test_a_table_is_that_of_the_measured_runs(page: str, name: str, expected: str) -> None:
    assert _marked(name, page) == expected


def test_the_curve_has_at_least_four_points() -> None:
    assert len({row["epochs"] for row in CURVE_ROWS}) == len(CURVE_ROWS) >= 4


def test_the_text_says_the_same_as_the_table_of_the_gpu() -> None:
    for row in GPU_ROWS:
        told = f"in {fmean(row['train_seconds']):.1f} s, to {mean_and_deviation(row['accuracies'])}"
        assert told in " ".join(README.split())


def test_the_recipes_made_for_speed_say_the_same_as_their_table() -> None:
    length = {name: recipe.settings.get("max_epochs") for name, recipe in recipes().items()}
    own = {r["recipe"]: r for r in SPEEDRUN_ROWS if r["epochs"] == length[r["recipe"]]}
    assert set(own) == {"fast_cnn", "fast_mlp"}
    for name, row in own.items():
        plain, views = map(mean_and_deviation, (row["accuracies"], row["accuracies_of_views"]))
        told = f"Here: {plain} % on the test set, {views} % as the mean of {views_of(row)} views"
        assert told in _header(name)
        assert f"{fmean(row['train_seconds']):,.0f} s on " in _header(name)


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_says_what_was_measured_on_which_data_or_that_nothing_was(name: str) -> None:
    measured = r"Here: \d\d\.\d+ .*seed.*JPEG copy.* (s|min) on .*--model .*--val_size 0"
    header = _header(name)
    assert re.search(measured, header) or header.endswith("Not measured here yet.")
