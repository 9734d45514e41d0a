"""The recipes: one YAML file each, with every setting that makes a model reach its accuracy.

A recipe is flat, like the flags: settings of the run (see ``cifar_lab.settings``) and the model's
own, and two facts for people, ``title`` and ``report_accuracy`` (a fraction; null where the report
has no figure). The comment behind a setting of the model is its help text. Nothing here imports
torch, so that ``--help`` is quick.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

FACTS = ("title", "report_accuracy")


@dataclass(frozen=True)
class Recipe:
    """One recipe file.

    Attributes:
        name: the file's, without its ending.
        model: the model that it trains.
        title: what it is, in a few words.
        report_accuracy: the report's figure, a fraction, or None.
        settings: every setting, of the run and of the model, without the facts.
        comments: setting to the comment behind it.
    """

    name: str
    model: str
    title: str
    report_accuracy: float | None
    settings: dict[str, Any]
    comments: dict[str, str]


@cache
def recipes() -> dict[str, Recipe]:
    """All recipes by name; a model's own recipe bears its name."""
    files = (entry for entry in resources.files(__name__).iterdir() if entry.name[-5:] == ".yaml")
    found = {file.name[:-5]: file.read_text("utf-8") for file in files}
    return {name: _parse(name, text) for name, text in sorted(found.items())}


def models() -> list[str]:
    """The names of all models; a test keeps them those of the registry."""
    return [name for name, recipe in recipes().items() if recipe.model == name]


def _parse(name: str, text: str) -> Recipe:
    settings = yaml.safe_load(text)
    comments = dict(re.findall(r"^(\w+):.*?\s{2}# (.+)$", text, flags=re.MULTILINE))
    title, accuracy = (settings.pop(fact) for fact in FACTS)
    return Recipe(name, settings["model"], title, accuracy, settings, comments)
