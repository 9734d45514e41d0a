"""The parser of all commands: it turns words into typed settings and a plan.

Settings are declared elsewhere (``cifar_lab.settings``), where jsonargparse types and checks their
values. This layer accepts dashes for underscores and switches without a value, refuses
abbreviations, and explains what is wrong in a line or two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_origin

from cifar_lab.errors import UserError
from cifar_lab.files import read_yaml, shown
from cifar_lab.plan import Plan, unknown_setting
from cifar_lab.recipes import recipes
from cifar_lab.recipes.own_model import is_own_model, settings_of_model
from cifar_lab.run_settings import RUN
from cifar_lab.settings import MISSING, Setting, canonical, check_values, settings_of

CONFIG = Setting("config", str | None, None, "YAML file of settings; -c", "run")
# Settings that several commands have.
CHECKPOINT = Setting(
    "ckpt",
    Path,
    MISSING,
    "checkpoint, exported weights, run folder, or name of a pretrained model: fast_cnn, mlp",
    "arguments",
)
OWN_MODEL = Setting("model", str | None, None, "module:Class of the model, if it is your own")
STUDY_STATUSES = (
    "Exit status: 0 done, 1 a training failed, 2 wrong input, 130 interrupted; the same command\n"
)


def images_at_a_time(number: int) -> Setting:
    """Return the setting ``--batch_size`` of a command that does not train."""
    return replace(RUN["batch_size"], default=number, help="images per batch", group="options")


@dataclass(frozen=True)
class Command:
    """What a command accepts.

    Attributes:
        options: dataclass that declares its own settings, or None.
        positionals: positional settings; the last one takes all remaining words if it is a list.
        shared: settings of a run: their names, or copies that have another default or help.
        plan: whether it accepts every setting of a run and of the model, and ``--config``. The help
            lists them all if ``shared`` names none.
        results: whether it returns its results, which --json prints, instead of an exit status.
    """

    name: str
    summary: str
    options: type | None = None
    positionals: tuple[Setting, ...] = ()
    shared: tuple[str | Setting, ...] = ()
    plan: bool = False
    results: bool = False
    example: str = ""

    @property
    def own(self) -> dict[str, Setting]:
        """The settings of the command, by name, without those of a run."""
        return settings_of(self.options) if self.options else {}

    @property
    def of_run(self) -> dict[str, Setting]:
        """The shared settings of a run, by name."""
        return {s.name: s for s in (RUN[s] if isinstance(s, str) else s for s in self.shared)}

    def parse(self, words: Sequence[str]) -> tuple[Any, dict[str, str]]:
        """Return the values of the command's own and shared settings, as attributes.

        Return too, by name, the words that were given for settings of a run, unchecked.
        """
        known = self._known(words)
        positionals, given = split_words(words, known, bool(self.positionals))
        for name in given:
            if name not in known:
                raise UserError(unknown_setting(name, known, "this command", "--"))
        own = self.of_run | self.own
        values = {name: entry.default for name, entry in own.items()}
        values |= check_values({n: v for n, v in given.items() if n in own}, own, "--")
        values |= self._positional_values(positionals)
        return SimpleNamespace(**values), {n: v for n, v in given.items() if n not in self.own}

    def _known(self, words: Sequence[str]) -> dict[str, Setting]:
        """Return every setting that the command may accept, for any model, by name."""
        known = self.of_run | self.own
        if not self.plan:
            return known
        of_models = {name: s for recipe in recipes().values() for name, s in recipe.own.items()}
        known = RUN | {CONFIG.name: CONFIG} | known
        given = split_words(words, of_models | known, bool(self.positionals))[1]
        if is_own_model(given.get("model")):
            of_models |= settings_of_model(given["model"])
        return of_models | known

    def _positional_values(self, words: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry in self.positionals:
            is_list = isinstance(entry.default, list)
            taken, words = (words, []) if is_list else (words[:1], words[1:])
            if not taken and entry.default not in (MISSING, []):
                found[entry.name] = entry.default
                continue
            if not taken:
                raise UserError(f"{entry.name.upper()}: missing; --help shows what is expected")
            if "" in taken:
                raise UserError(f"{entry.name.upper()}: expected a path, got nothing")
            values = [check_values({entry.name: word}, {entry.name: entry}, "") for word in taken]
            paths = [value[entry.name] for value in values]
            found[entry.name] = paths if is_list else paths[0]
        if words:
            raise UserError(f"{words[0]!r}: not expected here; --help shows what is")
        return found


def split_words(
    words: Sequence[str], known: Mapping[str, Setting], with_positionals: bool
) -> tuple[list[str], dict[str, Any]]:
    """Split words into positional ones and flags with their values, as text.

    A flag whose type is a tuple may be given several times; its values are a tuple.

    Where positional words are expected, everything after ``--`` is one.
    """
    positionals: list[str] = []
    flags: dict[str, Any] = {}
    left, last = list(words), ""
    while left:
        word = left.pop(0)
        if with_positionals and word == "--":
            return [*positionals, *left], flags
        if word == "-c":
            word = "--config"
        if not word.startswith("--"):
            is_dashed = word.startswith("-")
            if not with_positionals or (is_dashed and len(word) > 1):
                if last in known and not is_dashed and get_origin(known[last].type) is list:
                    told = f"--{last} {shown(flags[last])} {shown(word)}"
                    raise UserError(f"{told}: expected commas between the values, and no spaces")
                hint = "with two dashes" if is_dashed else f"such as --model {shown(word)}"
                raise UserError(f"{shown(repr(word))}: expected a flag, {hint}")
            positionals.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        last = name = canonical(name)
        if not equals:
            value = _value_behind(name, left, known, with_positionals)
        if name == "config" and name in flags:
            raise UserError(
                f"--config {flags[name]} and {value}: only one file is accepted; merge them"
            )
        is_repeated = name in known and get_origin(known[name].type) is tuple
        flags[name] = (*flags.get(name, ()), value) if is_repeated else value
    return positionals, flags


def _value_behind(
    name: str, left: list[str], known: Mapping[str, Setting], with_positionals: bool
) -> str:
    """Return the value after a flag, which a switch may omit; remove it from the words."""
    entry = known.get(name)
    is_switch = entry is not None and entry.type is bool
    has_value = bool(left) and not left[0].startswith("-" if is_switch else "--")
    if with_positionals and is_switch:
        has_value = has_value and left[0] in ("true", "false")
    if has_value:
        return left.pop(0)
    if is_switch or name == "resume":  # alone, --resume means the last run
        return "last" if name == "resume" else "true"
    if entry is not None:
        raise UserError(f"--{name}: expected a value after it")
    return ""


def plan_of(given: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of flags; they override ``--config``, and both override ``before``."""
    given = dict(given)
    path = given.pop("config", None)
    layers: list[tuple[Mapping[str, Any], str]] = [(before or {}, "--")]
    if path is not None:
        config = read_yaml(path, "--config")
        origin = f"--config {shown(path)}: "
        for name in config:
            if canonical(name) in ("resume", "seeds", "help", "print_config", "config"):
                raise UserError(f"{origin}{name}: a flag, not a setting")
        if is_own_model(config.get("model")) and "model" not in given:
            raise UserError(f"{origin}a model of your own: give --model {config['model']}")
        layers.append((config, origin))
    return Plan.layered([*layers, (given, "--")])
