"""A model of the user's own, named ``package.module:Class``, and the settings of its constructor.

Only a name that the user gives is imported: the value of ``--model``, or an argument in Python. A
name in a checkpoint, a recipe or another file never is, since the file may come from a stranger.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring

from cifar_lab.errors import UserError, first_line
from cifar_lab.files import shown
from cifar_lab.settings import MISSING, Setting

UNIONS = (Union, UnionType)
PATTERN = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


def is_own_model(name: object) -> bool:
    """Return whether a name has the form ``package.module:Class``."""
    return isinstance(name, str) and PATTERN.fullmatch(name) is not None


def name_of(model: type) -> str:
    """Return the name ``module:Class`` of a class."""
    return f"{model.__module__}:{model.__qualname__}"


@cache
def import_model(name: str) -> type:
    """Import the class with a name ``package.module:Class``, from the current folder too.

    Raises:
        UserError: There is no such module or class, or it is not an ``ImageClassifier``.
    """
    module_name, _, class_name = name.partition(":")
    importlib.invalidate_caches()  # a notebook may just have written the file
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a module of the user's own may raise anything
        reason = f"{type(error).__name__}: {shown(first_line(error))}"
        raise UserError(f"--model {name}: cannot be imported ({reason})") from error
    finally:
        sys.path.remove("")
    from cifar_lab.models.classifier import ImageClassifier

    if not (isinstance(found, type) and issubclass(found, ImageClassifier)):
        raise UserError(f"--model {name}: expected a subclass of cifar_lab.models.ImageClassifier")
    return found


def settings_of_model(name: str) -> dict[str, Setting]:
    """Return the settings of a user's own model: the arguments of its constructor.

    The number of classes is not one of them: it comes from the data.
    """
    model = import_model(name)
    constructor: Any = model.__init__  # type: ignore[misc]
    try:
        types = get_type_hints(constructor)
    except Exception as error:  # a name that only type checkers know
        reason = shown(first_line(error))
        raise UserError(f"--model {name}: its annotations cannot be read ({reason})") from error
    helps = {
        entry.arg_name: " ".join((entry.description or "").split())
        for documented in (*reversed(model.__mro__), constructor)
        for entry in parse_docstring(documented.__doc__ or "").params
    }
    group, found = f"settings of {name.partition(':')[2]}", {}
    for argument in list(inspect.signature(constructor).parameters.values())[1:]:
        variadic = argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
        if argument.name == "num_classes" or variadic:
            continue
        kind = _listed(types.get(argument.name))
        if not _is_plain(kind):
            raise UserError(
                f"--model {name}: the argument {argument.name} needs a type that a setting may "
                "have: int, float, bool, str, a Literal, a list of these, or one of these or None"
            )
        default = MISSING if argument.default is argument.empty else argument.default
        default = list(default) if isinstance(default, tuple) else default
        text = helps.get(argument.name, "").rstrip(".")
        found[argument.name] = Setting(argument.name, kind, default, text, group)
    return found


def _listed(kind: Any) -> Any:
    """Return ``list[X]`` for other sequences of X, which is how settings hold them."""
    if get_origin(kind) in UNIONS:
        return Union[tuple(map(_listed, get_args(kind)))]  # noqa: UP007  # of several types
    is_sequence = get_origin(kind) in (Sequence, tuple)
    return list[get_args(kind)[0]] if is_sequence else kind  # type: ignore[misc]


def _is_plain(kind: Any, in_list: bool = False) -> bool:
    """Return whether checkpoints and configuration files can hold the values of a type."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is list:
        return not in_list and all(_is_plain(part, in_list=True) for part in parts)
    if origin in UNIONS:
        return all(_is_plain(part, in_list) for part in parts)
    plain = (bool, int, float, str, NoneType)
    return origin is Literal or (isinstance(kind, type) and issubclass(kind, plain))
