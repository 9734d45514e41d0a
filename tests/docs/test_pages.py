"""README and docs say what the package does: its commands, its flags, its models, its numbers."""

import re
from importlib import import_module
from pathlib import Path
from runpy import run_path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.cli.main import COMMANDS
from cifar_lab.cli.parser import plan_of
from cifar_lab.experiments.speedrun_page import views_of
from cifar_lab.experiments.tables import mean_and_deviation
from cifar_lab.plan import ALIASES, RUN
from cifar_lab.recipes import recipes

ROOT = Path(__file__).parents[2]
tables = SimpleNamespace(**run_path(str(ROOT / "docs" / "tables.py")))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.name: path.read_text("utf-8") for path in PATHS}
README = PAGES["README.md"]
# Commands as a page shows them.
SHOWN = re.compile(r"(?:cifar-lab|scripts/(\w+)\.py) ([a-z-][^`;#&|)\n]*)")


def _marked(name: str, page: str = README) -> str:
    """The part of a page between its two comments."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert found, name
    return found[1]


def _header(recipe: str) -> str:
    """The comment at the top of a recipe."""
    text = (ROOT / "cifar_lab" / "recipes" / f"{recipe}.yaml").read_text("utf-8")
    return " ".join(text.partition("\ntitle:")[0].replace("#", "").split())


def test_a_command_is_one_line_with_its_own_virtual_environment() -> None:
    start = r"```\npython3 -m venv \.venv && \.venv/bin/pip install -e "
    ends = {"train": r"scripts/fit\.py --model cnn", "test": "python -m pytest -n auto"}
    for name, end in ends.items():
        assert re.fullmatch(rf"{start}.*{end}\n```", _marked(name))


def test_every_command_is_named_and_every_script_is_one() -> None:
    for name in COMMANDS:
        assert re.search(rf"`(cifar-lab )?{name}`", README), name
    assert {script.stem.replace("_", "-") for script in SCRIPTS} == set(COMMANDS)


def _command(name: str) -> Any:
    return import_module(f"cifar_lab.cli.{name.replace('-', '_')}").COMMAND


def _shown_commands() -> set[str]:
    return {
        f"{script.replace('_', '-')} {words}".strip()
        for page in PAGES.values()
        for script, words in SHOWN.findall(page.replace("\\\n", " "))
    }


@pytest.mark.parametrize("shown", sorted(_shown_commands()))
def test_a_command_that_is_shown_is_understood(shown: str) -> None:
    name, *words = re.sub(r"\$resume|…|\b[A-Z]+\b", "", shown).replace("$", "").split()
    if name == "--help":
        return
    command = _command(name)
    if not words or "--help" in words or "my_package.my_module:MyModel" in words:
        return
    _, given = command.parse([re.sub("^SLURM_.*", "0", word) for word in words])
    if command.plan and "config" not in given:
        plan_of({flag: value for flag, value in given.items() if flag != "resume"})


def test_the_flags_that_are_named_exist() -> None:
    known = {*RUN, *ALIASES} | {name for recipe in recipes().values() for name in recipe.settings}
    known |= {name for command in COMMANDS for name in _command(command).own}
    known |= {"help", "config", "print_config", "version"}  # ours
    known |= {
        "logdir",
        "logdir_spec",
        "no-index",
        "find-links",
        "index-url",
    }  # of TensorBoard and pip
    known |= {"nproc_per_node", "backend-store-uri", "check"}  # of torchrun, MLflow and ruff
    for text in PAGES.values():
        shown = re.sub(r"```bash(.|\n)*?```|srun .*|#SBATCH .*|benchmarks/.*", "", text)
        shown = re.sub(r"`--[a-z-]+-[a-z-]+`", "", shown)  # of SLURM
        assert set(re.findall(r"(?<![-\w])--([a-z][a-z_-]*)", shown)) <= known


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[path.name]):
        target, _, anchor = link.partition("#")
        if target.startswith("https:"):
            continue
        assert not target or (path.parent / target).exists(), link
        if anchor:
            text = PAGES[Path(target).name] if target else PAGES[path.name]
            titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in anchors, link


RESULTS = tables.measured("results.json")
CURVE_ROWS = tables.measured("curve_fast_mlp.json")["rows"]


@pytest.mark.parametrize("path", tables.pages(), ids=lambda path: path.name)
def test_a_page_says_what_the_runs_measured(path: Path) -> None:
    assert path.read_text("utf-8") == tables.pages()[path], "python docs/tables.py writes it"


def test_every_recipe_is_in_the_tables() -> None:
    rows = (*tables.SYSTEMS, *tables.SPEEDRUN_ROWS)
    assert {row["recipe"] for row in rows} == set(recipes())


def test_the_curve_has_at_least_four_points() -> None:
    assert len({row["epochs"] for row in CURVE_ROWS}) == len(CURVE_ROWS) >= 4


@pytest.mark.parametrize("system", RESULTS["systems"], ids=lambda system: system["recipe"])
def test_the_reference_runs_are_those_of_the_table(system: dict[str, Any]) -> None:
    folder = ROOT / "docs" / "reference_runs" / system["recipe"]
    assert {path.name for path in folder.iterdir()} == {f"seed_{n}" for n in system["seeds"]}
    for seed, best, last in zip(system["seeds"], system["best"], system["last"], strict=True):
        events = EventAccumulator(str(folder / f"seed_{seed}" / "test"), {"scalars": 0})
        events.Reload()
        points = [event.value for event in events.Scalars("acc/test")]
        assert (max(points), points[-1]) == pytest.approx((best, last), abs=1e-6)


def test_the_recipes_made_for_speed_say_the_same_as_their_table() -> None:
    length = {name: recipe.settings.get("max_epochs") for name, recipe in recipes().items()}
    own = {r["recipe"]: r for r in tables.SPEEDRUN_ROWS if r["epochs"] == length[r["recipe"]]}
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


@pytest.mark.slow
def test_the_example_with_lightning_runs(tree: Path) -> None:
    found = re.search(
        r"```python\n(import pytorch_lightning.*?)\n```", PAGES["python.md"], re.DOTALL
    )
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


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "python.md"])
def test_the_example_with_fit_runs(page: str, tree: Path) -> None:
    found = re.search(r"```python\n(import cifar_lab.*?)\n```", PAGES[page], re.DOTALL)
    assert found
    quick = (
        f'max_steps=2, batch_size=20, data_dir={str(tree)!r}, accelerator="cpu", dashboard="off"'
    )
    example = found[1].replace("max_steps=500", quick).replace("max_steps=1000", "max_steps=3")
    names: dict[str, Any] = {}
    exec(example, names)
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert names["model"](images).shape == (1, 3)
