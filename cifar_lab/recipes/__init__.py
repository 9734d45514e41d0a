"""The recipes: one YAML file each, with all settings that a model needs to reach its accuracy.

A recipe is flat, like the flags: settings of the run (``cifar_lab.run_settings``), settings of the
model, and two facts for people, ``title`` and ``report_accuracy`` (a fraction, or null where
the report has no figure). A model's own settings have the types of the values in its recipe, and
the comment behind one is its help. Nothing here imports torch, so that ``--help`` is quick.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from cifar_lab.errors import UserError
from cifar_lab.files import parse_yaml, read_yaml, shown
from cifar_lab.recipes.own_model import is_own_model, settings_of_model
from cifar_lab.settings import MISSING, Setting, canonical, unknown

FACTS = ("title", "report_accuracy")
LIMITS = ("max_steps", "max_epochs")  # the length of a run is one of them


@dataclass(frozen=True)
class Recipe:
    """The settings that a run starts from."""

    name: str  # file name without its suffix, or the path of a user's own recipe
    model: str  # name of the model, or module:Class of a user's own
    title: str
    report_accuracy: float | None  # the report's test accuracy, a fraction
    settings: Mapping[str, Any]  # values by name, of the run and of the model
    own: Mapping[str, Setting]  # the model's own settings, by name


@cache
def recipes() -> dict[str, Recipe]:
    """Return the package's recipes by name; a model's own recipe has the name of the model."""
    files = (entry for entry in resources.files(__name__).iterdir() if entry.name[-5:] == ".yaml")
    texts = {file.name[:-5]: file.read_text("utf-8") for file in files}
    return {name: _parse(name, text) for name, text in sorted(texts.items())}


def models() -> list[str]:
    """Return the names of the package's models."""
    return [name for name, recipe in recipes().items() if recipe.model == name]


def find_recipe(name: object, model: object, told: Mapping[str, str]) -> Recipe:
    """Return the recipe with a name, or that of a model; each may be None or a user's own.

    ``told`` is what an error message calls "model" and "recipe".
    """
    if model is not None and not is_own_model(model) and model not in models():
        raise UserError(unknown(told["model"], model, models()))
    if name is None or name == model:
        return _model_recipe(str(model or "cnn"))
    if is_recipe_file(name):
        recipe = _read_recipe(str(name), model, told["recipe"])
    elif isinstance(name, str) and name in recipes():
        recipe = recipes()[name]
    else:
        raise UserError(unknown(told["recipe"], name, recipes()))
    if model not in (None, recipe.model):
        raise UserError(f"{told['recipe']} {name}: a recipe for {recipe.model}, not for {model}")
    return recipe


def is_recipe_file(name: object) -> bool:
    """Return whether the name of a recipe is the path of a user's own."""
    return isinstance(name, str) and name.endswith((".yaml", ".yml"))


def recipe_name(name: str) -> str:
    """Return the one name of a recipe: of a user's own, its absolute path."""
    return str(Path(name).expanduser().absolute()) if is_recipe_file(name) else name


def _model_recipe(model: str) -> Recipe:
    """Return the recipe of a model; a user's own has the defaults of its constructor, no length."""
    if not is_own_model(model):
        return recipes()[model]
    own = settings_of_model(model)
    values = {name: entry.default for name, entry in own.items() if entry.default is not MISSING}
    return Recipe(model, model, model.partition(":")[2], None, values, own)


def _read_recipe(path: str, model: object, flag: str) -> Recipe:
    """Read a user's own recipe; what it leaves out comes from the recipe of its model.

    A model of the user's own is not imported because the file names it; ``model`` must name it too.
    """
    values = {canonical(name): value for name, value in read_yaml(path, flag).items()}
    named = values.pop("model", model)
    if is_own_model(named) and model != named:
        raise UserError(f"{flag} {shown(path)}: a model of your own: give --model {named}")
    base = find_recipe(None, named, {"model": f"{flag} {shown(path)}: model"})
    title, accuracy = (values.pop(fact, None) for fact in FACTS)
    if not isinstance(title, str | None) or not isinstance(accuracy, float | None):
        raise UserError(f"{flag} {shown(path)}: expected a text as title, a fraction as accuracy")
    left_out = LIMITS if values.keys() & set(LIMITS) else ()
    values = {key: v for key, v in base.settings.items() if key not in left_out} | values
    name, title = recipe_name(path), title or Path(path).stem
    return replace(base, name=name, title=title, report_accuracy=accuracy, settings=values)


def _parse(name: str, text: str) -> Recipe:
    settings = parse_yaml(text, name)
    helps = dict(re.findall(r"^(\w+):.*?\s{2}# (.+)$", text, flags=re.MULTILINE))
    title, accuracy, model = (settings.pop(key) for key in (*FACTS, "model"))
    own = {
        key: Setting(key, _type_of(settings[key]), settings[key], help, f"settings of {model}")
        for key, help in helps.items()
    }
    return Recipe(name, model, title, accuracy, settings, own)


def _type_of(value: Any) -> Any:
    return list[type(value[0])] if isinstance(value, list) else type(value)  # type: ignore[misc]
