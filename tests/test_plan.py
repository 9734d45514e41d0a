"""Plans: from a recipe, layers of settings, files of runs, and back to text and to a call."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.errors import UserError
from cifar_lab.plan import ELSEWHERE, SERVES, Plan, RunSettings
from cifar_lab.recipes import recipes
from cifar_lab.run_settings import RUN


def test_keywords_are_settings_of_the_run_and_of_the_model_and_names_of_the_course() -> None:
    model = {"hidden_units": (20, 10), "learning_rate": 0.1}
    plan = Plan.of("mlp", max_epochs=2, data_dir=Path("x"), **model)
    assert plan.settings.max_epochs == 2
    assert plan.settings.max_steps is None  # the recipe's length is replaced
    assert plan.settings.data_dir == "x"
    assert plan.model_settings["hidden_units"] == [20, 10]
    assert plan.model_settings["lr"] == 0.1


def test_a_length_of_the_run_replaces_another_one() -> None:
    plan = Plan.layered([({"max_epochs": "3"}, "file: "), ({"max_steps": "7"}, "--")])
    assert (plan.settings.max_steps, plan.settings.max_epochs) == (7, None)
    plan = Plan.layered([({"max_steps": None, "max_epochs": None}, "file: ")])
    assert plan.settings.max_steps == 5000


def test_replace_changes_what_it_names_and_the_old_plan_not() -> None:
    plan = Plan.of("mlp")
    other = plan.replace(seed=3, lr=0.5, max_epochs=1)
    assert (other.settings.seed, other.model_settings["lr"]) == (3, 0.5)
    assert (other.settings.max_steps, other.settings.max_epochs) == (None, 1)
    assert plan == Plan.of("mlp") == plan.replace(model="mlp", recipe="mlp")
    assert other.replace(seed=0, lr=0.002, max_steps=1500) == plan
    assert Plan.from_config(other.as_config(), "config.yaml: ") == other


def test_a_plan_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Plan.of().settings = RunSettings()  # type: ignore[misc]


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "cnn"},
        {"model": "mlp", "lr": 0.5, "seed": 3, "augment": ["flip", "crop"]},
        {"model": "mlp", "max_epochs": 2, "data_dir": "it's here"},
        {"recipe": "deep_mlp_4x1000", "hidden_units": [5]},
    ],
)
def test_a_plan_as_a_call_is_the_call_that_makes_it(settings: dict[str, Any]) -> None:
    plan = Plan.of(**settings)
    call = ast.parse(plan.as_call(), mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == "cifar_lab.fit"
    keywords = {entry.arg: ast.literal_eval(entry.value) for entry in call.keywords}
    assert Plan.of(*map(ast.literal_eval, call.args), **keywords) == plan
    assert set(keywords) <= set(settings)  # nothing else is named


def test_what_decides_the_numbers_is_told_from_what_does_not() -> None:
    plan = Plan.of("mlp")
    same = plan.replace(data_dir="x", log_dir="y", progress="none", checkpoint_minutes=1)
    assert same.decisive() == plan.decisive()
    for settings in ({"seed": 1}, {"lr": 0.5}, {"precision": "64-true"}, {"max_epochs": 1}):
        assert plan.replace(**settings).decisive() != plan.decisive()
    batches = [plan.replace(limit_train_batches=value).decisive() for value in (1, 1.0)]
    assert batches[0] != batches[1]  # one batch and all batches


def test_names_from_elsewhere_lead_to_settings_that_are_there() -> None:
    known = {
        *RUN,
        "config",
        "resume",
        *(name for recipe in recipes().values() for name in recipe.own),
    }
    for ours, names in ELSEWHERE.items():
        assert ours in known or " " in ours
        assert not known & set(names.split())
    assert len(SERVES) == sum(len(names.split()) for names in ELSEWHERE.values())


@pytest.mark.parametrize(
    ("settings", "figure"),
    [
        ({}, 0.423),
        ({"val_size": 0, "seed": 1, "eval_every": 50, "precision": "64-true"}, 0.423),
        ({"log_dir": "x", "data_dir": "y", "threads": 1, "max_steps": 1500}, 0.423),
        ({"val_size": 40_000}, None),
        ({"max_steps": 60}, None),
        ({"hidden_units": [100, 100]}, None),
        ({"batch_size": 100}, None),
        ({"augment": ["flip"]}, None),
        ({"overfit_batches": 1}, None),
        ({"limit_val_batches": 1}, None),
    ],
)
def test_the_reports_figure_is_that_of_its_system_alone(settings, figure) -> None:
    assert Plan.of("mlp", **settings).report_accuracy == figure


def test_settings_that_a_run_of_an_older_version_did_not_have_are_the_defaults() -> None:
    config = Plan.of("mlp", lr=0.5).as_config()
    del config["checkpoint_minutes"], config["hidden_units"]
    assert Plan.from_config(config, "config.yaml: ") == Plan.of("mlp", lr=0.5)


def test_a_recipe_of_ones_own_changes_that_of_its_model() -> None:
    Path("my.yaml").write_text("model: mlp\ntitle: Mine\nlearning-rate: 0.5\nmax_epochs: 3\n")
    plan = Plan.of(recipe="my.yaml", seed=1)
    assert plan.recipe.title == "Mine"
    assert plan.recipe.report_accuracy is None
    assert (plan.settings.max_epochs, plan.settings.max_steps) == (3, None)
    assert plan.model_settings["lr"] == 0.5
    assert plan.settings.batch_size == 200  # from the recipe of mlp
    assert plan.settings.recipe == str(Path("my.yaml").absolute())
    assert plan.replace(recipe="my.yaml") == plan
    Path("my.yaml").unlink()  # config.yaml of a run holds all of it
    assert Plan.from_config(plan.as_config(), "config.yaml: ") == plan


def _altered(**changes: Any) -> Plan:
    return Plan.from_config(Plan.of("mlp").as_config() | changes, "config.yaml: ")


def _layered(file: dict[str, str], flags: dict[str, str]) -> Plan:
    return Plan.layered([(file, "file: "), (flags, "--")])


def _of_recipe(text: str) -> Plan:
    Path("my.yaml").write_text(text)
    return Plan.of("mlp", recipe="my.yaml")


REPLACE = Plan.of("mlp").replace


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [  # keywords have no dashes
        (Plan.of, {"model": "mpl"}, "model mpl: unknown; did you mean mlp?"),
        (Plan.of, {"recipe": "cnnn"}, "recipe cnnn: unknown; did you mean cnn?"),
        (Plan.of, {"recipe": "none.yaml"}, "recipe none.yaml: cannot be read"),
        (Plan.of, {"model": "mlp", "recipe": "cnn"}, "recipe cnn: a recipe for cnn, not for mlp"),
        (Plan.of, {"batch_sizes": 5}, "batch_sizes: unknown; did you mean batch_size?"),
        (Plan.of, {"dropout": 0.1}, "dropout: a setting of deep_mlp, fast_mlp, not of cnn"),
        (Plan.of, {"seed": -1}, "seed -1: expected an integer from 0"),
        (Plan.of, {"lr": None}, "lr None: expected a number"),
        (Plan.of, {"max_steps": 5, "max_epochs": 1}, "max_steps 5 and max_epochs 1: give one"),
        (REPLACE, {"model": "cnn"}, "model cnn: cannot replace mlp"),
        (REPLACE, {"recipe": "cnn"}, "recipe cnn: cannot replace mlp"),
        (REPLACE, {"sed": 1}, "sed: unknown; did you mean seed?"),
        (REPLACE, {"seed": "x"}, "seed x: expected"),
        (_altered, {"lr": "fast"}, "config.yaml: lr fast: expected a number"),
        (_altered, {"wings": 2}, "config.yaml: wings: unknown"),
        (_altered, {"model": "mpl"}, "config.yaml: model mpl: unknown"),
        (_altered, {"model": ["mlp"]}, "config.yaml: model ['mlp']: unknown"),
        (_altered, {"recipe": {"mlp": 1}}, "config.yaml: recipe {'mlp': 1}: unknown"),
        (_altered, {"recipe": "cnn"}, "config.yaml: recipe cnn: a recipe for cnn, not for mlp"),
        (_layered, {"file": {"model": "mpl"}, "flags": {}}, "file: model mpl: "),
        (_layered, {"file": {"model": "mlp"}, "flags": {"model": "mpl"}}, "--model mpl: "),
        (_layered, {"file": {"lr": "x"}, "flags": {"lr": "1"}}, "file: lr x: "),
        (_of_recipe, {"text": "model: mpl"}, "recipe my.yaml: model mpl: unknown; did you mean"),
        (_of_recipe, {"text": "model: mlp\nlearning_rte: 1"}, "recipe "),
        (_of_recipe, {"text": "model: mlp\nmax_steps: 1\nmax_epochs: 1"}, "recipe "),
        (_of_recipe, {"text": "model: cnn"}, "recipe my.yaml: a recipe for cnn, not for mlp"),
        (_of_recipe, {"text": "title: 3"}, "recipe my.yaml: expected a text as title"),
        (_of_recipe, {"text": "- a list"}, "recipe my.yaml: expected lines of the form"),
    ],
)
def test_wrong_settings_are_explained(make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}[^\\n]*$"):
        make(**settings)
