"""The recipes: each one complete, consistent with its model's class, and documented."""

import inspect
from typing import get_args, get_origin, get_type_hints

import pytest

from cifar_lab.models import REGISTRY
from cifar_lab.plan import RUN, Plan
from cifar_lab.recipes import models, recipes

RECIPES = pytest.mark.parametrize("name", recipes())


def _class_settings(model: str) -> dict[str, object]:
    """The model's own settings and their defaults; the number of classes is the data's."""
    parameters = inspect.signature(REGISTRY[model]).parameters
    return {name: p.default for name, p in parameters.items() if name != "num_classes"}


def test_every_model_of_the_registry_has_its_own_recipe() -> None:
    assert set(models()) == set(REGISTRY)


@pytest.mark.parametrize("model", REGISTRY)
def test_a_model_built_without_settings_is_that_of_its_recipe(model: str) -> None:
    settings = recipes()[model].settings
    for name, default in _class_settings(model).items():
        value = list(default) if isinstance(default, tuple) else default
        assert settings[name] == value, name


@RECIPES
def test_a_recipe_holds_the_settings_of_its_model_with_their_types_and_texts(name: str) -> None:
    """The flag takes the type that the recipe shows: 0 would refuse 0.1."""
    recipe = recipes()[name]
    assert set(recipe.settings) - set(RUN) == set(recipe.own) == set(_class_settings(recipe.model))
    types = get_type_hints(REGISTRY[recipe.model].__init__)
    for setting, entry in recipe.own.items():
        kind = types[setting]
        expected = list[get_args(kind)[0]] if get_origin(kind) else kind
        assert entry.type == expected, setting
        assert entry.help, setting
        assert entry.default == recipe.settings[setting]


@RECIPES
def test_a_recipe_is_read_with_the_types_of_the_flags(name: str) -> None:
    plan = Plan.of(recipe=name)
    assert plan.recipe.name == name
    assert plan == Plan.of(plan.recipe.model, recipe=name)
    assert plan.settings.model == plan.recipe.model
    assert bool(plan.settings.max_steps) != bool(plan.settings.max_epochs)
    assert plan.as_config().items() >= plan.recipe.settings.items()
    assert Plan.from_config(plan.as_config(), "config.yaml: ") == plan
