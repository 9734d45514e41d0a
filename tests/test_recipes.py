"""The recipes: each one complete, consistent with its model's class, and documented."""

import inspect
from dataclasses import fields
from typing import get_args, get_origin, get_type_hints

import pytest

from cifar_lab.models import REGISTRY
from cifar_lab.parsing import parse_fit
from cifar_lab.recipes import models, recipes
from cifar_lab.settings import FitSettings

RECIPES = pytest.mark.parametrize("name", recipes())
RUN_SETTINGS = {field.name for field in fields(FitSettings)}


def _class_settings(model: str) -> dict[str, object]:
    """The model's own settings and their defaults; the number of classes is the data's."""
    parameters = inspect.signature(REGISTRY[model]).parameters
    return {name: p.default for name, p in parameters.items() if name != "num_classes"}


def test_every_model_of_the_registry_has_its_own_recipe() -> None:
    assert set(models()) == set(REGISTRY)


@RECIPES
def test_a_recipe_holds_exactly_the_settings_of_its_model(name: str) -> None:
    recipe = recipes()[name]
    assert set(recipe.settings) - RUN_SETTINGS == set(_class_settings(recipe.model))


@pytest.mark.parametrize("model", REGISTRY)
def test_a_model_built_without_settings_is_that_of_its_recipe(model: str) -> None:
    settings = recipes()[model].settings
    for name, default in _class_settings(model).items():
        value = list(default) if isinstance(default, tuple) else default
        assert settings[name] == value, name


@RECIPES
def test_a_setting_has_the_type_of_its_argument(name: str) -> None:
    """The flag takes the type that the recipe shows: 0 would refuse 0.1."""
    recipe = recipes()[name]
    types = get_type_hints(REGISTRY[recipe.model].__init__)
    for setting in _class_settings(recipe.model):
        value = recipe.settings[setting]
        found = type(value[0]) if isinstance(value, list) else type(value)
        expected = (
            types[setting] if get_origin(types[setting]) is None else get_args(types[setting])[0]
        )
        assert found is expected, setting


@RECIPES
def test_a_recipe_is_read_with_the_types_of_the_flags(name: str) -> None:
    plan = parse_fit(["--recipe", name])
    assert plan.recipe.name == name
    assert plan.settings.model == plan.recipe.model
    assert bool(plan.settings.max_steps) != bool(plan.settings.max_epochs)
    assert {n: plan.as_config()[n] for n in plan.recipe.settings} == plan.recipe.settings


@RECIPES
def test_the_settings_of_a_model_are_explained(name: str) -> None:
    recipe = recipes()[name]
    assert all(recipe.comments[setting] for setting in set(recipe.settings) - RUN_SETTINGS)


@pytest.mark.parametrize(
    ("name", "figure", "steps"),
    [
        ("numpy_mlp", 0.4865, 1500),
        ("mlp", 0.423, 1500),
        ("deep_mlp_4x1000", 0.52, 3000),
        ("deep_mlp_4x1024", 0.538, 4500),
        ("deep_mlp_5x1000", 0.5663, 5000),
        ("deep_mlp", 0.5742, 7500),
        ("cnn", 0.7692, 5000),
    ],
)
def test_the_systems_of_the_report_are_there(name: str, figure: float, steps: int) -> None:
    recipe = recipes()[name]
    assert recipe.report_accuracy == figure
    assert recipe.settings["max_steps"] == steps
