"""README and docs say what the package does: its commands, its flags, its models, its numbers."""

import json
import re
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.cli.main import COMMANDS
from cifar_lab.cli.parser import plan_of
from cifar_lab.experiments import ablation
from cifar_lab.experiments.report_page import markdown
from cifar_lab.experiments.speedrun_page import table, views_of
from cifar_lab.experiments.tables import mean_and_deviation
from cifar_lab.plan import ALIASES, RUN
from cifar_lab.recipes import recipes

ROOT = Path(__file__).parents[2]
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


RESULTS = _measured("results.json")
# Of cifar-lab speedrun --output, a file a recipe.
SPEEDRUNS = [path.name for path in sorted((ROOT / "docs").glob("speedrun_*"))]
SPEEDRUN_ROWS = [row for name in SPEEDRUNS for row in _measured(name)["rows"]]
GPU_ROWS = [row for speedrun in _measured("gpu_speedruns.json") for row in speedrun["rows"]]
CURVE_ROWS = _measured("curve_fast_mlp.json")["rows"]
MEASURED = {s["recipe"]: (s["best"], s["seconds"]) for s in RESULTS["systems"]}
MEASURED |= {r["recipe"]: (r["accuracies"], r["train_seconds"]) for r in SPEEDRUN_ROWS}


def _table(head: str, *rows: str) -> str:
    """A table of a page; cells are separated by bars."""
    return "\n".join(f"| {row} |" for row in (head, re.sub("[^|]+", " --- ", head).strip(), *rows))


def _models() -> str:
    """The models with what they reached, how long that took, and what the report has."""
    rows = []
    for name, (accuracies, seconds) in MEASURED.items():
        recipe, mean = recipes()[name], fmean(seconds)
        report = "–" if recipe.report_accuracy is None else f"{100 * recipe.report_accuracy:.2f}"
        time = f"{mean / 60:.0f} min" if mean >= 100 else f"{mean:.0f} s"
        row = (f"`{name}`", recipe.title, mean_and_deviation(accuracies), report, time)
        rows.append(" | ".join(row))
    return _table("recipe | what | accuracy (%) | report (%) | time", *rows)


def _settings() -> str:
    """The settings of the recipes that tell most."""
    rows = []
    for name in MEASURED:
        recipe = recipes()[name]
        at = recipe.settings
        length = f"{at['max_steps']:,}" if at.get("max_steps") else f"{at['max_epochs']} epochs"
        optimizer = f"{at.get('optimizer', 'sgd')}, {at['lr']:g}"
        rows.append(f"`{name}` | `{recipe.model}` | {optimizer} | {at['batch_size']} | {length}")
    return _table("recipe | model | optimizer, learning rate | batch | steps", *rows)


@pytest.mark.parametrize(
    ("page", "name", "expected"),
    [
        ("README.md", "models", _models()),
        ("results.md", "results", markdown(RESULTS)),
        ("results.md", "speedrun", table(SPEEDRUN_ROWS)),
        ("results.md", "recipes", _settings()),
        ("speed.md", "speedrun", table(SPEEDRUN_ROWS)),
        ("speed.md", "gpu", table(GPU_ROWS)),
        ("speed.md", "curve", table(CURVE_ROWS)),
        ("speed.md", "ablation", ablation.table(_measured("ablation_fast_mlp.json"))),
    ],
)
def test_a_table_is_that_of_the_measured_runs(page: str, name: str, expected: str) -> None:
    assert _marked(name, PAGES[page]) == expected


def test_every_recipe_is_in_the_tables() -> None:
    assert set(MEASURED) == set(recipes())


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


@pytest.mark.parametrize("system", RESULTS["systems"], ids=lambda system: system["recipe"])
def test_a_recipe_says_the_same_as_the_table(system: dict[str, Any]) -> None:
    best, last = (mean_and_deviation(system[point]) for point in ("best", "last"))
    assert f"Here: {best} % (best point), {last} % (last)" in _header(system["recipe"])


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
