"""The help of a command, formatted by jsonargparse from the settings that are declared."""

import textwrap
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jsonargparse import ArgumentParser

from cifar_lab.cli.parser import CONFIG, Command, split_words
from cifar_lab.errors import UserError
from cifar_lab.recipes import Recipe, find_recipe, models, recipes
from cifar_lab.run_settings import RUN
from cifar_lab.settings import ALIASES, MISSING, Setting, choices, expected

WIDTH = 80
FORMATTER: Any = partial(RawDescriptionHelpFormatter, max_help_position=26, width=WIDTH)
ALWAYS = (  # flags of every command
    Setting("help", bool, False, "print this help; -h"),
    Setting("version", bool, False, "print the version"),
)


def help_of(command: Command, words: Sequence[str], prog: str) -> str:
    """Return the help of a command called ``prog``, with the settings of the words' model."""
    return parser_of(command, words, prog).format_help().rstrip()


def parser_of(command: Command, words: Sequence[str], prog: str) -> ArgumentParser:
    """Return a parser for the help of a command; docs/commands.md is made from it too."""
    paragraphs = command.summary.split("\n\n")
    text = "\n\n".join(textwrap.fill(" ".join(part.split()), WIDTH) for part in paragraphs)
    settings = [*command.own.values(), *command.of_run.values()]
    if command.plan and command.shared:
        settings.append(CONFIG)
    elif command.plan:
        recipe = _recipe(words)
        usual = {**recipe.settings, "model": recipe.model, "recipe": recipe.name}
        settings = [*RUN.values(), CONFIG, *command.own.values(), *recipe.own.values()]
        settings = [replace(s, default=usual.get(s.name, s.default)) for s in settings]
        aliases = [f"--{alias} (--{name})" for alias, name in ALIASES.items()]
        text += "\n"
        for name, names in (("models", models()), ("recipes", recipes()), ("aliases", aliases)):
            text += "\n" + textwrap.fill(
                f"{name + ':':<9} {', '.join(names)}", WIDTH, subsequent_indent=" " * 10
            )
    positionals = "".join(f" {_metavar(entry, True)}" for entry in command.positionals)
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog}{positionals} [--FLAG VALUE ...]".replace("%", "%%"),
        description=text,
        epilog=f"example: {prog} {command.example}",
        formatter_class=FORMATTER,
        add_help=False,
    )
    groups: dict[str, Any] = {}
    for entry in [*command.positionals, *settings, *ALWAYS]:
        if entry.group not in groups:
            groups[entry.group] = parser.add_argument_group(entry.group)
        _add(groups[entry.group], entry, entry in command.positionals)
    return parser


def _recipe(words: Sequence[str]) -> Recipe:
    try:
        _, given = split_words(words, RUN, with_positionals=False)
    except UserError:
        given = {}
    told = {"model": "--model", "recipe": "--recipe"}
    return find_recipe(given.get("recipe"), given.get("model"), told)


def _add(group: Any, entry: Setting, is_positional: bool) -> None:
    parts = ["|".join(choices(entry.type)), entry.help]
    text, default = "; ".join(filter(None, parts)), entry.default
    if default not in (None, MISSING, [], ()) and default is not False:  # 0 is a value
        text += f" [{','.join(map(str, default)) if isinstance(default, list) else default}]"
    name = entry.name if is_positional else f"--{entry.name}"
    metavar = _metavar(entry, is_positional)
    group.add_argument(name, metavar=metavar, type=str, help=text.replace("%", "%%"))


def _metavar(entry: Setting, is_positional: bool) -> str:
    if is_positional:
        return entry.name.upper() + ("..." if isinstance(entry.default, list) else "")
    if entry.type is bool:
        return ""
    words = {"integer": "N", "number": "X", "share": "X", "text": "TEXT", "path": "PATH"}
    told = expected(entry.type)
    return next((word for part, word in words.items() if part in told), "NAME")
