"""The declaration of settings, and the check of their values.

A setting is a field of a dataclass made by :func:`setting`; the field's annotation is its type.
Everything else follows from this declaration: the flag on the command line, its help, the key in
a configuration file, and the keyword in Python. jsonargparse converts and checks values; this
module accepts comma-separated lists and explains what is wrong in one line.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from jsonargparse.typing import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
)

from cifar_lab.errors import UserError
from cifar_lab.files import check_local, shown

if TYPE_CHECKING:
    Seed = int
    Share = float
else:
    Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])
    Share = restricted_number_type("Share", float, [(">", 0), ("<=", 1)])

MOST_NUMBERS = 10_000  # numbers that a range such as 0..4 may stand for
RANGES = (list[Seed], list[PositiveInt], list[NonNegativeInt])  # types that accept such a range
# Names of the course whose report this package reproduces.
ALIASES = {"dnn_hidden_units": "hidden_units", "learning_rate": "lr", "eval_freq": "eval_every"}
EXPECTED = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    PositiveInt: "a positive integer",
    NonNegativeInt: "an integer of at least 0",
    Share: "a share, above 0.0 and at most 1.0",
    PositiveFloat: "a number above 0",
    NonNegativeFloat: "a number of at least 0",
    Seed: "an integer from 0 to 4294967295",
    list[int]: "integers separated by commas",
    list[float]: "numbers separated by commas",
    list[str]: "names separated by commas",
}


@dataclass(frozen=True)
class Setting:
    """One setting."""

    name: str  # of the field, the flag and the key
    type: Any  # type that its values are checked against
    default: Any  # MISSING if a value is required
    help: str
    group: str = "options"  # heading under which the help lists it
    resumable: bool = False  # whether it may change when a run is resumed
    decisive: bool = True  # whether it decides the numbers of a run
    is_path: bool = False  # whether it is a path; a setting of type Path always is


def setting(default: Any, help: str, group: str = "options", **flags: bool) -> Any:
    """Declare a setting as a field of a dataclass; the arguments are those of ``Setting``."""
    about = {"help": help, "group": group, **flags}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=about)
    return field(default=default, metadata=about)


@cache
def settings_of(declared: type) -> dict[str, Setting]:
    """Return the settings that a dataclass declares, by name."""
    types = get_type_hints(declared)
    found = {}
    for entry in fields(declared):
        factory: Any = entry.default_factory
        default = factory() if entry.default is MISSING else entry.default
        found[entry.name] = Setting(entry.name, types[entry.name], default, **entry.metadata)
    return found


def canonical(name: str) -> str:
    """Return the one spelling of the name of a flag or a key."""
    name = name.replace("-", "_")
    return ALIASES.get(name, name)


def check_values(
    values: Mapping[str, Any], settings: Mapping[str, Setting], origin: str
) -> dict[str, Any]:
    """Convert values, text or plain values of any kind, to the types of their settings.

    Raises:
        UserError: A value does not have the type of its setting; ``origin``, such as ``--``, is the
            prefix of its name in the message.
    """
    return {name: _convert(settings[name], value, origin) for name, value in values.items()}


def _convert(wanted: Setting, value: Any, origin: str) -> Any:
    kind = wanted.type
    if (wanted.is_path or kind in (Path, Path | None)) and isinstance(value, str | os.PathLike):
        check_local(value, f"{origin}{wanted.name}")
    if Share in get_args(kind) and (isinstance(value, float) or "." in shown(value)):
        kind = Share  # 1.0 is everything, 1 is one batch
    if kind == str | None and isinstance(value, str):
        return None if value == "null" else value  # YAML would take "~" for null too
    try:
        typed = _plain(_typed(_prepare(value, kind), kind))
        if typed is None and NoneType not in get_args(kind):
            raise ValueError("jsonargparse accepts null for every type")
        return typed
    except Exception:  # strange values raise more than the errors of the parser
        told = shown(value) or "''"
        raise UserError(f"{origin}{wanted.name} {told}: expected {expected(kind)}") from None


def _typed(value: Any, kind: Any) -> Any:
    """Return a value as jsonargparse converts it to a type; it may raise any exception."""
    if value is None:
        return None
    if kind in (Path, Path | None):
        if not str(value):
            raise ValueError("an empty path would be the current folder")
        return Path(value).expanduser()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    if isinstance(value, str):
        return parser.parse_args([f"--value={value}"]).value
    return parser.parse_object({"value": value}).value


def _prepare(value: Any, kind: Any) -> Any:
    """Split comma-separated lists, and make text of a number where text is wanted."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind not in (str, list[str], Path, Path | None) and isinstance(value, str) and ":" in value:
        raise ValueError("YAML reads 1:30 as 90")
    is_list = any(get_origin(part) is list for part in (kind, *get_args(kind)))
    if is_list and isinstance(value, str | int) and value != "null":
        text = str(value).strip("[] ")
        if kind in RANGES:
            return _integers(text)
        return [] if text in ("", "none") else [part.strip() for part in text.split(",")]
    if isinstance(value, list | tuple | range):
        return list(value)  # a copy: jsonargparse changes it
    if kind is str and isinstance(value, int | float):
        return str(value)  # YAML reads `devices: 2` as a number
    return value


def _integers(text: str) -> list[int]:
    """Return the distinct integers of a list such as "0,1,2" or "0..2,7"."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        found = range(int(first), int(last) + 1) if dots else [int(part)]
        if not 0 < len(found) <= MOST_NUMBERS - len(numbers):
            raise ValueError("too many numbers")
        numbers += found
    return list(dict.fromkeys(numbers))


def _plain(value: Any) -> Any:
    """Convert jsonargparse's subclasses of numbers to plain numbers."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("more bits than torch and NumPy have room for")
    plain = next((kind for kind in (bool, int, float) if isinstance(value, kind)), None)
    return plain(value) if plain else value


def as_text(value: Any) -> str:
    """Return the value of a setting as text for people, with four digits for a number."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def choices(kind: Any) -> list[str]:
    """Return the names that a ``Literal`` type allows; an empty list for another type."""
    if get_origin(kind) is list:
        return []
    parts = [part for part in get_args(kind) if part is not NoneType]
    if all(isinstance(part, str) for part in parts):
        return parts
    return [name for part in parts for name in choices(part)]


def expected(kind: Any) -> str:
    """Return what a value of this type looks like, in words."""
    if kind in EXPECTED:
        return EXPECTED[kind]
    if names := choices(kind):
        return "one of " + ", ".join(names)
    if kind in RANGES:
        return f"integers separated by commas, or a range 0..4; at most {MOST_NUMBERS:,}"
    if get_origin(kind) is list:
        return f"values separated by commas, each {expected(get_args(kind)[0])}"
    parts = [part for part in get_args(kind) if part is not NoneType]
    return " or ".join(map(expected, parts)) if parts else getattr(kind, "__name__", str(kind))


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Return the error message for an unknown name: the nearest known one, and all of them."""
    known = list(known)
    name = shown(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{what} {name}: unknown{hint} (known: {', '.join(known)})"
