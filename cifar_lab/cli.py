"""The commands: what they are called, what their help says, and their exit statuses.

0 is done, 1 a failed training, 2 wrong input (one or two lines, no traceback), 130 and 143
interrupted and terminated, 141 when the output pipe was closed. Nothing heavy is imported
before the flags are understood.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from cifar_lab.command_line import command
from cifar_lab.errors import UserError
from cifar_lab.parsing import (
    ALIASES,
    choose_recipe,
    expected,
    parse_seeds,
    split_flags,
)
from cifar_lab.recipes import Recipe, models, recipes
from cifar_lab.settings import FitSettings
from cifar_lab.training.resume import plan_resume


@command("fit.py")
def fit(argv: Sequence[str]) -> int:
    """Trains a model: the command of ``scripts/fit.py``.

    Args:
        argv: the words behind the script's name; default: the process's own.

    Returns:
        The exit status.
    """
    if {"-h", "--help"} & set(argv):
        print(fit_help(_recipe_for_help(argv)))
        return 0
    show_config = bool({"--print_config", "--print-config"} & set(argv))
    words = [word for word in argv if word not in ("--print_config", "--print-config")]
    flags = split_flags(words)
    if {"resume", "seeds"} <= flags.keys():
        raise UserError("--resume and --seeds cannot be combined: --resume continues a single run")
    plans = [plan_resume(words)] if "resume" in flags else parse_seeds(words)
    if show_config:
        print(plans[0].as_yaml(), end="")
        return 0
    if "seeds" in flags:
        from cifar_lab.studies.seeds import fit_seeds

        return fit_seeds(plans)
    from cifar_lab.training.fit import run_fit

    return run_fit(plans[0])


def fit_help(recipe: Recipe) -> str:
    """The help of ``scripts/fit.py``, with the values and the own settings of a recipe."""
    lines = [
        "usage: python scripts/fit.py [--model NAME] [--FLAG VALUE ...]",
        "",
        "Trains a model on CIFAR-10. Values come from a recipe, then --config FILE (-c),",
        "then flags; --print_config prints them all and exits. --seeds 0..4 trains a run for each",
        "seed and shows mean and standard deviation. Dashes and underscores are the same.",
        "",
        *_wrapped("models:", models()),
        *_wrapped("recipes:", list(recipes())),
    ]
    values = {**vars(FitSettings()), **recipe.settings, "recipe": recipe.name}
    groups: dict[str, list[str]] = {}
    for field in fields(FitSettings):
        text = _help_line(field.name, field.metadata["help"], values[field.name])
        groups.setdefault(field.metadata["group"], []).append(text)
    own = [name for name in recipe.settings if name not in vars(FitSettings())]
    groups[f"settings of {recipe.model} (--model NAME --help shows another's)"] = [
        _help_line(name, recipe.comments.get(name, ""), values[name]) for name in own
    ]
    for group, entries in groups.items():
        lines += ["", f"{group}:", *entries]
    aliases = ", ".join(f"--{alias} (--{name})" for alias, name in ALIASES.items())
    return "\n".join([*lines, "", f"also accepted: {aliases}"])


def _wrapped(title: str, names: Sequence[str]) -> list[str]:
    return textwrap.wrap(
        ", ".join(names), width=98, initial_indent=f"{title:<10}", subsequent_indent=" " * 10
    )


def _help_line(name: str, text: str, value: Any) -> str:
    kind = get_type_hints(FitSettings).get(name)
    if kind is not None and get_args(kind) and expected(kind).startswith("one of "):
        choices = expected(kind).removeprefix("one of ").replace(", ", "|")
        text = f"{choices}; {text}" if text else choices
    shown = ",".join(map(str, value)) if isinstance(value, list) else value
    unset = value is None or value is False or value == []  # 0 is a value
    default = "" if unset else f" [{shown}]"
    return f"  --{name:<24}{text}{default}"


def _recipe_for_help(argv: Sequence[str]) -> Recipe:
    try:
        flags = split_flags([word for word in argv if word not in ("-h", "--help")])
    except UserError:
        flags = {}
    return choose_recipe(flags, {})
