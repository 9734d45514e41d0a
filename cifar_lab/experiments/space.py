"""The space of a sweep: the settings to search, and the values that they may have."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from cifar_lab.errors import UserError, first_line
from cifar_lab.files import shown
from cifar_lab.plan import Plan, unknown_setting
from cifar_lab.run_settings import RUN
from cifar_lab.settings import canonical
from cifar_lab.training.fit import build_model

Space = dict[str, BaseDistribution]
ORIGIN = "--space "
FORMS = "NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=CHOICE,CHOICE"
# These settings decide what a sweep is, not how well training works.
FIXED = {"model": "sweep each model by itself", "recipe": "sweep each recipe by itself"}
FIXED |= {"seed": "give --seeds, and each trial is the mean over them"}
FIXED |= {"val_size": "all trials are compared on the same validation images"}


def parse_space(words: Sequence[str], plan: Plan) -> Space:
    """Return the distribution of each setting, by its name.

    Args:
        words: ``NAME=LOW..HIGH``, ``NAME=LOW..HIGH:log``, ``NAME=CHOICE,CHOICE`` or, for a setting
            that is a list, ``NAME=CHOICE|CHOICE``.
        plan: plan whose settings are searched.

    Raises:
        UserError: A name is unknown or cannot be searched, or a value does not have its type.
    """
    found: Space = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = canonical(name.removeprefix("--"))
        if not (name and equals and text):
            raise UserError(f"{ORIGIN}{shown(word)}: expected {FORMS}")
        known = {**RUN, **plan.recipe.own}
        if name not in known:
            raise UserError(unknown_setting(name, known, plan.recipe.model, ORIGIN))
        if name in FIXED or (name in RUN and not RUN[name].decisive):
            reason = FIXED.get(name, "does not change the result of a training")
            raise UserError(f"{ORIGIN}{name}: cannot be searched; {reason}")
        if name in found:
            raise UserError(f"{ORIGIN}{name}: given twice")
        found[name] = _distribution(name, text, plan)
    return found


def _distribution(name: str, text: str, plan: Plan) -> BaseDistribution:
    ends = re.fullmatch(r"([^.:,|]+(?:\.[^.:,|]*)?)\.\.([^:,|]+?)(:log)?", text)
    if not ends and ".." in text:
        raise UserError(f"{ORIGIN}{name}={shown(text)}: expected {FORMS}")
    if not ends:
        choices = list(dict.fromkeys(text.split("|" if "|" in text else ",")))
        for choice in choices:
            _value(name, choice, plan)
        if len(choices) < 2:
            raise UserError(f"{ORIGIN}{name}={text}: expected a range or several choices")
        return CategoricalDistribution(choices)
    low, high = (_value(name, end, plan) for end in ends.groups()[:2])
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (low, high)):
        raise UserError(f"{ORIGIN}{name}={text}: a range is for numbers")
    log = ends[3] is not None
    if not low < high or (log and low <= 0):
        raise UserError(
            f"{ORIGIN}{name}={text}: expected a lower and a higher end{', above 0' * log}"
        )
    kind = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
    return kind(low, high, log=log)


def _value(name: str, text: str, plan: Plan) -> Any:
    """Return a value of a setting; raise a UserError if its model refuses it."""
    changed = plan.changed({name: text}, ORIGIN)
    if name in plan.recipe.own:
        try:
            build_model(changed, num_classes=2)  # the fewest; the images are not read yet
        except UserError as error:
            raise UserError(f"{ORIGIN}{name}={shown(text)}: {first_line(error)}") from error
    return changed.as_config()[name]


def plan_of_params(plan: Plan, params: Mapping[str, Any]) -> Plan:
    """Return the plan with the values of a trial."""
    return plan.changed(params, "")


def describe_params(params: Mapping[str, Any]) -> str:
    """Return the values of a trial as people read them, such as "lr=0.00123 optimizer=adam"."""
    parts = (f"{n}={v:.3g}" if isinstance(v, float) else f"{n}={v}" for n, v in params.items())
    return " ".join(parts)
