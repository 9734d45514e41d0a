"""Settings: what a declaration says, which values its type accepts, and what others are told."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from cifar_lab import settings
from cifar_lab.errors import UserError
from cifar_lab.settings import MOST_NUMBERS, Seed, Setting, Share, setting

Colour = Literal["red", "blue"]


def _check(kind: Any, value: Any) -> Any:
    return settings.check_values({"x": value}, {"x": Setting("x", kind, None, "")}, "--")["x"]


@dataclass(frozen=True)
class Options:
    """Two settings."""

    rate: PositiveFloat = setting(0.5, "a rate", "numbers", resumable=True)
    names: list[str] = setting(["a"], "names", decisive=False)


def test_a_declaration_says_everything_about_a_setting() -> None:
    rate, names = settings.settings_of(Options).values()
    assert (rate.name, rate.type, rate.default, rate.help) == ("rate", PositiveFloat, 0.5, "a rate")
    assert (rate.group, rate.resumable, rate.decisive) == ("numbers", True, True)
    assert (names.default, names.group, names.decisive) == (["a"], "options", False)
    assert Options().names is not Options().names


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (int, "7", 7),
        (int, 7, 7),
        (PositiveInt, "1", 1),
        (NonNegativeInt, "0", 0),
        (Seed, "4294967295", 2**32 - 1),
        (float, "1e-3", 1e-3),
        (float, 1, 1.0),
        (NonNegativeFloat, "0", 0.0),
        (bool, "true", True),
        (bool, "yes", True),
        (bool, False, False),
        (str, "1:30", "1:30"),
        (str, 2, "2"),  # YAML reads `devices: 2` as a number
        (str | None, "~", "~"),  # the home folder, not YAML's null
        (str | None, "null", None),
        (str | None, None, None),
        (PositiveInt | None, "null", None),
        (PositiveInt | Share | None, "1", 1),  # one batch
        (PositiveInt | Share | None, "1.0", 1.0),  # all batches
        (PositiveInt | Share | None, 0.5, 0.5),
        (Colour, "red", "red"),
        (Colour | None, None, None),
        (Path, "a/b", Path("a/b")),
        (Path | None, "~/x", Path.home() / "x"),
        (Path | None, None, None),
        (list[int], "10,20", [10, 20]),
        (list[int], "[10, 20]", [10, 20]),
        (list[int], 10, [10]),
        (list[int], (10, 20), [10, 20]),
        (list[int], "none", []),
        (list[int] | None, "10,20", [10, 20]),
        (list[int] | None, None, None),
        (list[int] | None, "null", None),
        (list[float], "0.5,1", [0.5, 1.0]),
        (list[str], "http://a/x, http://b", ["http://a/x", "http://b"]),
        (list[str], "", []),
        (list[Colour], "red,blue", ["red", "blue"]),
        (list[Seed], "0..2,7", [0, 1, 2, 7]),
        (list[Seed], "1,0,1", [1, 0]),
        (list[PositiveInt], range(1, 4), [1, 2, 3]),
    ],
)
def test_a_value_that_is_accepted_is_plain(kind: Any, value: Any, found: Any) -> None:
    converted = _check(kind, value)
    assert converted == found
    assert type(converted) is type(found)  # not a subclass, which YAML does not know
    if isinstance(found, list):
        assert list(map(type, converted)) == list(map(type, found))


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (int, ["x", "1.5", 1.5, "", "true", True, [1], None, "1:30", 10**30], "an integer"),
        (int, ["9" * 5000, 16**5000], "an integer"),
        (PositiveInt, ["0", -1, "many", 2**63], "a positive integer"),
        (NonNegativeInt, ["-1"], "an integer of at least 0"),
        (Seed, ["-1", 2**32], "an integer from 0 to 4294967295"),
        (float, ["fast", "", "1:30", None, "null", True, {"a": 1}], "a number"),
        (PositiveFloat, ["0", -1.0, math.nan], "a number above 0"),
        (NonNegativeFloat, ["-1"], "a number of at least 0"),
        (bool, ["maybe", "2", 1, None], "true or false"),
        (PositiveInt | Share | None, ["0", True, 16**5000], "a positive integer or a share"),
        (PositiveInt | Share | None, ["1.5", "0.0", 1.5], "a share, above 0.0 and at most 1.0"),
        (Colour, ["green", "", 1, ["red"]], "one of red, blue"),
        (Path, ["", None], "a path"),
        (Path | None, [""], "a path"),
        (list[int], ["9,ten", "1.5", ["x"], "1,,2"], "integers separated by commas"),
        (list[float], ["x"], "numbers separated by commas"),
        (list[Colour], ["red,green"], "values separated by commas, each one of red, blue"),
        (list[Seed], ["", "2..1", "x..3", "1.5", -1], "integers separated by commas, or a range"),
        (list[Seed], [f"0..{MOST_NUMBERS}"], "integers separated by commas, or a range 0..4; at"),
        (list[PositiveInt], ["0..4", [0]], "integers separated by commas, or a range 0..4"),
    ],
)
def test_a_refused_value_is_shown_with_what_was_expected(kind: Any, values: Any, told: str) -> None:
    for value in values:
        with pytest.raises(UserError) as caught:
            _check(kind, value)
        message = str(caught.value)
        assert message.startswith("--x ")
        assert f": expected {told}" in message
        assert message.isprintable()
        assert len(message) < 300


def test_the_value_itself_is_not_changed() -> None:
    given = ["a", "b"]
    found = _check(list[str], given)
    found.append("c")
    assert given == ["a", "b"]


def test_choices_are_those_of_a_literal() -> None:
    assert settings.choices(Colour | None) == ["red", "blue"]
    for kind in (list[Colour], str, PositiveInt | None):
        assert settings.choices(kind) == []
    assert settings.expected(Colour | None) == "one of red, blue"


def test_an_unknown_name_gets_the_nearest_one() -> None:
    assert settings.unknown("--model", "mpl", ["cnn", "mlp"]) == (
        "--model mpl: unknown; did you mean mlp? (known: cnn, mlp)"
    )
    assert settings.unknown("--model", "\x1b", ["cnn"]) == "--model '\\x1b': unknown (known: cnn)"
