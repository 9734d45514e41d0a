"""From the words of a command line to typed settings: recipe, then ``--config``, then flags.

jsonargparse types and checks the values. This layer on top of it accepts dashes for underscores,
comma lists and the course's names, refuses abbreviations, and says what is wrong in a line or two
with the nearest match. Every flag takes one value; one that is true or false may go without.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from cifar_lab.config_file import read_config
from cifar_lab.errors import UserError
from cifar_lab.files import shown
from cifar_lab.integers import integers
from cifar_lab.recipes import Recipe, models, recipes
from cifar_lab.settings import FitSettings, Seed, Share

# Names of the course whose report this package reproduces.
ALIASES = {
    "dnn_hidden_units": "hidden_units",
    "learning_rate": "lr",
    "eval_freq": "eval_every",
}
ACTIONS = ("help", "config", "print_config", "seeds")  # flags that are no settings
# Names of Lightning's command line and of its earlier versions, for the hint in an error.
LIGHTNING = {"ckpt_path": "resume", "gpus": "devices", "seed_everything": "seed"}
EXPECTED = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    PositiveInt: "a positive integer",
    NonNegativeInt: "an integer of at least 0",
    Share: "a share, above 0.0 and at most 1.0",
    PositiveFloat: "a number above 0",
    NonNegativeFloat: "a number of at least 0",
    Seed: "an integer from 0 to 4294967295",
    list[int]: "integers separated by commas",
    list[str]: "names separated by commas",
}


@dataclass(frozen=True)
class FitPlan:
    """Everything that a run was told.

    Attributes:
        settings: of the run.
        model_settings: keyword arguments of the model's class, without the number of classes.
        recipe: the recipe that they started from.
        checkpoint: of a run that goes on; see training/resume.py.
    """

    settings: FitSettings
    model_settings: dict[str, Any]
    recipe: Recipe
    checkpoint: Path | None = None

    def as_config(self) -> dict[str, Any]:
        """All settings, flat, as ``--config`` takes them; ``resume`` is none of a run's own."""
        settings = {name: v for name, v in vars(self.settings).items() if name != "resume"}
        return {**settings, **self.model_settings}

    def as_yaml(self) -> str:
        """The same as a file."""
        return yaml.safe_dump(self.as_config(), sort_keys=False, default_flow_style=None)


def parse_fit(argv: Sequence[str]) -> FitPlan:
    """Turns flags into settings.

    Raises:
        UserError: with the flag or key, what came and what was expected.
    """
    flags = split_flags(argv)
    path = flags.pop("config", None)
    config = {} if path is None else read_config(path, "--config")
    config = {canonical(name): value for name, value in config.items()}
    of_config = f"--config {shown(path)}: "
    for name in ("resume", "seeds"):
        if name in config:
            raise UserError(f"{of_config}{name}: give it as a flag")
    recipe = choose_recipe(flags, config, of_config)
    values = dict(recipe.settings)
    for layer, origin in ((config, of_config), (flags, "--")):
        values.update(check_settings(layer, recipe, origin))
    return make_plan(values, recipe)


def parse_seeds(argv: Sequence[str]) -> list[FitPlan]:
    """A plan for each seed of ``--seeds``; else the one plan that the flags describe.

    Raises:
        UserError: as of ``parse_fit``, or ``--seeds`` with ``--seed``.
    """
    flags = split_flags(argv)
    if "seeds" not in flags:
        return [parse_fit(argv)]
    if "seed" in flags:
        raise UserError(f"--seed {shown(flags['seed'])} and --seeds: give one of them")
    seeds = integers("--seeds", flags.pop("seeds"))
    words = [f"--{name}={value}" for name, value in flags.items()]
    return [parse_fit([*words, f"--seed={seed}"]) for seed in seeds]


def refuse_seed(flags: Sequence[str]) -> None:
    """Refuses ``--seed`` among the flags of runs that have a seed each.

    Raises:
        UserError: it is there.
    """
    seed = split_flags(flags).get("seed")
    if seed is not None:
        raise UserError(f"--seed {shown(seed)}: the runs have the seeds of --seeds")


def make_plan(values: Mapping[str, Any], recipe: Recipe) -> FitPlan:
    """A plan from typed values of all settings; those of the run that are left out are default."""
    values = {**values, "recipe": recipe.name}
    names = {field.name for field in fields(FitSettings)}
    return FitPlan(
        FitSettings(**{name: value for name, value in values.items() if name in names}),
        {name: value for name, value in values.items() if name not in names},
        recipe,
    )


def split_flags(argv: Sequence[str]) -> dict[str, str]:
    """Pairs each flag with its value, as text; a later flag replaces an earlier one.

    Raises:
        UserError: a word that is no flag, or a flag without its value.
    """
    flags: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        word = "--config" if word == "-c" else word
        if not word.startswith("--"):
            hint = "with two dashes" if word.startswith("-") else f"such as --model {shown(word)}"
            raise UserError(f"{shown(repr(word))}: expected a flag, {hint}")
        name, equals, value = word[2:].partition("=")
        name = canonical(name)
        if not equals:
            if words and not words[0].startswith("--"):
                value = words.pop(0)
            elif name in _switches():
                value = "true"
            elif name in _all_settings():
                raise UserError(f"--{name}: expected a value behind it")
        if name == "config" and name in flags:
            raise UserError(f"--config {flags[name]} and {value}: one file; put them together")
        flags[name] = value
    return flags


def canonical(name: str) -> str:
    """The one spelling of a flag's or key's name."""
    name = name.replace("-", "_")
    return ALIASES.get(name, name)


def choose_recipe(
    flags: Mapping[str, Any], config: Mapping[str, Any], of_config: str = ""
) -> Recipe:
    """The recipe that the flags or else the configuration name, or that of the model they name.

    Args:
        flags: by their names.
        config: settings of a configuration.
        of_config: what an error puts before a name of the configuration.

    Raises:
        UserError: an unknown model or recipe, or a recipe for another model.
    """
    model = flags.get("model", config.get("model"))
    name = flags.get("recipe", config.get("recipe"))
    told = {n: f"--{n}" if n in flags else f"{of_config}{n}" for n in ("model", "recipe")}
    if model is not None and model not in models():
        raise UserError(unknown(told["model"], model, models()))
    if name is None:
        name = model or FitSettings.model
    if not isinstance(name, str) or name not in recipes():
        raise UserError(unknown(told["recipe"], name, recipes()))
    recipe = recipes()[name]
    if model not in (None, recipe.model):
        raise UserError(f"{told['recipe']} {name}: a recipe for {recipe.model}, not for {model}")
    return recipe


def setting_types(recipe: Recipe) -> dict[str, Any]:
    """Each setting's type: of the run as declared, of the model as its recipe's values show."""
    types = get_type_hints(FitSettings)
    own = {name: value for name, value in recipe.settings.items() if name not in types}
    return {**types, **{name: _type_of(value) for name, value in own.items()}}


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the nearest that is, and all."""
    known = list(known)
    name = shown(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{what} {name}: unknown{hint} (known: {', '.join(known)})"


def _all_settings() -> set[str]:
    """Every flag that some model knows."""
    own = {name for recipe in recipes().values() for name in recipe.settings}
    return {field.name for field in fields(FitSettings)} | own | set(ACTIONS)


def _switches() -> set[str]:
    """Flags that are true when they stand alone."""
    types = get_type_hints(FitSettings)
    own = {name for r in recipes().values() for name, value in r.settings.items() if value is True}
    own |= {"help", "print_config", "resume"}  # alone, --resume means the last run
    return own | {name for name, kind in types.items() if kind is bool}


def _type_of(value: Any) -> Any:
    return list[type(value[0])] if isinstance(value, list) else type(value)  # type: ignore[misc]


def check_settings(values: Mapping[str, Any], recipe: Recipe, origin: str) -> dict[str, Any]:
    """Checks the names of settings, then their values; of the two limits, one clears the other.

    Args:
        values: as text or as YAML read them.
        recipe: of the model.
        origin: what an error puts before a name.

    Raises:
        UserError: an unknown name, or a value of the wrong kind.
    """
    types = setting_types(recipe)
    for name in values:
        if name not in types:
            raise UserError(_unknown_setting(name, types, recipe.model, origin))
    found = {name: _convert(name, value, types[name], origin) for name, value in values.items()}
    return _one_limit(found)


def _unknown_setting(name: str, types: Mapping[str, Any], model: str, origin: str) -> str:
    owners = {other.model for other in recipes().values() if name in other.settings}
    name = shown(name)
    if name in ACTIONS:
        reason = "takes no value" if origin == "--" else "a flag, not a setting"
        return f"{origin}{name}: {reason}"
    if owners:
        return f"{origin}{name}: a setting of {', '.join(sorted(owners))}, not of {model}"
    near = difflib.get_close_matches(name, [*types, *ACTIONS, *ALIASES], n=1)
    near = [LIGHTNING[name]] if name in LIGHTNING else near
    hint = f"; did you mean {origin}{near[0]}?" if near else "; --help lists all"
    return f"{origin}{name}: unknown{hint}"


def _convert(name: str, value: Any, kind: Any, origin: str) -> Any:
    if Share in get_args(kind) and "." in str(value):
        kind = Share  # 1.0 is all of it, 1 is one
    if kind == str | None and isinstance(value, str):
        return None if value == "null" else value  # YAML would take "~" for null too
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    try:
        plain_value = _plain(value, kind)
        if isinstance(plain_value, str):
            typed = parser.parse_args([f"--value={plain_value}"]).value
        else:
            typed = parser.parse_object({"value": plain_value}).value
        _check_size(typed)
    except Exception:  # strange values bring out more than the parser's own errors
        told = shown(value) or "''"
        raise UserError(f"{origin}{name} {told}: expected {expected(kind)}") from None
    # jsonargparse's restricted numbers are subclasses; YAML knows the plain ones.
    plain = next((kind for kind in (bool, int, float) if isinstance(typed, kind)), None)
    return plain(typed) if plain else typed


def _plain(value: Any, kind: Any) -> Any:
    """Splits comma lists, copies others, and makes text of a number where text is meant.

    Raises:
        ValueError: text that is too long, an integer of too many digits, or one in sixties.
    """
    if kind not in (str, list[str]) and isinstance(value, str) and ":" in value:
        raise ValueError("YAML reads 1:30 as 90")
    if get_origin(kind) is list and isinstance(value, str | int):
        text = str(value).strip("[] ")
        return [] if text in ("", "none") else [part.strip() for part in text.split(",")]
    if isinstance(value, list):
        return list(value)  # jsonargparse changes it
    if kind is str and isinstance(value, int | float):
        return str(value)  # YAML reads `devices: 2` as a number
    return value


def _check_size(typed: Any) -> None:
    """Refuses integers that torch and NumPy have no room for.

    Raises:
        ValueError: of more than 64 bits.
    """
    for number in typed if isinstance(typed, list) else [typed]:
        if isinstance(number, int) and abs(number) >= 2**63:
            raise ValueError("more than 64 bits")


def expected(kind: Any) -> str:
    """What a value of this type looks like, in words."""
    if kind in EXPECTED:
        return EXPECTED[kind]
    choices = get_args(kind)
    if all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(choices)
    return " or ".join(expected(kind) for kind in choices if kind is not NoneType)


def _one_limit(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Lets max_steps and max_epochs override each other."""
    steps, epochs = layer.get("max_steps"), layer.get("max_epochs")
    if steps is not None and epochs is not None:
        raise UserError(f"--max_steps {steps} and --max_epochs {epochs}: give one of them")
    if steps is not None:
        return {**layer, "max_epochs": None}
    if epochs is not None:
        return {**layer, "max_steps": None}
    return {name: v for name, v in layer.items() if name not in ("max_steps", "max_epochs")}
