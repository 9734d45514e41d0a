"""Any flags and any configuration: settings that can be written and read again, or a UserError."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifar_lab.cli import fit, main
from cifar_lab.cli.parser import plan_of
from cifar_lab.errors import UserError
from cifar_lab.plan import RUN, Plan
from cifar_lab.recipes import recipes
from cifar_lab.run.resume import resume_plan
from cifar_lab.settings import ALIASES

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3000)]
FUZZ = settings.get_profile("fuzz")

NAMES = sorted({*RUN, *ALIASES, *(name for recipe in recipes().values() for name in recipe.own)})
RECIPES = sorted(recipes())
SPECIAL = ["nan", ".inf", "-1", "1e999", "9" * 5000, "0x", "0x" + "f" * 5000, "1:2:3", "1_0"]
SPECIAL += ["[[1]]", "{a: 1}", "null", "~", "*a", "&a [*a]", "!!int x", "2001-99-99", "- a"]
SPECIAL += ["no_such_module:Net", "my.yaml", "", "\0", "\udc80", "[" * 3000]
TEXTS = st.one_of(
    st.sampled_from([*SPECIAL, *RECIPES, "auto", "true", "none", "flip,crop", "10,10"]),
    st.integers(-(10**30), 10**30).map(str),
    st.floats().map(str),
    st.text(max_size=20),
    st.text(alphabet="[]{}&*!|>%@:-,?#'\" \n0aé", max_size=30),
)
FLAG_NAMES = st.sampled_from(NAMES) | st.text(max_size=8)
WORDS = st.lists(
    st.one_of(
        st.tuples(FLAG_NAMES, TEXTS).map(lambda pair: [f"--{pair[0]}", pair[1]]),
        st.tuples(FLAG_NAMES, TEXTS).map(lambda pair: [f"--{pair[0]}={pair[1]}"]),
        TEXTS.map(lambda text: [text]),
    ),
    max_size=4,
).map(lambda pairs: [word for pair in pairs for word in pair])

SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.dates()
SCALARS |= st.binary(max_size=5) | st.sampled_from([*SPECIAL, *RECIPES]) | st.text(max_size=10)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FILES = st.one_of(
    (st.dictionaries(FLAG_NAMES, VALUES, max_size=4) | VALUES).map(lambda x: _yaml(x)),
    st.lists(st.tuples(FLAG_NAMES, TEXTS), max_size=4).map(
        lambda pairs: "\n".join(f"{name}: {text}" for name, text in pairs).encode(errors="replace")
    ),
    TEXTS.map(lambda text: text.encode(errors="surrogatepass")),
    st.binary(max_size=60),
)


def _yaml(content: object) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True).encode(errors="surrogatepass")


def _parse(words: list[str]) -> Plan:
    return plan_of(fit.COMMAND.parse(words)[1])


def _is_plan_or_error(words: list[str]) -> None:
    try:
        plan = _parse(words)
    except UserError as error:
        text = str(error)
        assert text.isprintable() or text.count("\n") == 1
        assert len(text) < 1000
        assert main(["fit", *words, "--print_config"]) == (0 if {"-h", "--help"} & {*words} else 2)
        return
    Path("again.yaml").write_text(plan.as_yaml(), "utf-8")
    assert _parse(["--config", "again.yaml"]).as_yaml() == plan.as_yaml()
    assert main(["fit", *words, "--print_config"]) == 0


@FUZZ
@given(words=WORDS)
def test_any_flags(words: list[str]) -> None:
    _is_plan_or_error(words)


@FUZZ
@given(content=FILES, words=WORDS)
@example(content=b"lr: &a [*a]\n", words=[])
@example(content=b"model: [cnn]\n", words=[])
@example(content=b"recipe: {cnn: 1}\n", words=[])
@example(content=b"seed: 0x" + b"f" * 9000, words=[])
@example(content=b"lr: !!timestamp x\n", words=[])
@example(content=b"\xff\xfe\x00", words=[])
def test_any_configuration(content: bytes, words: list[str]) -> None:
    Path("any.yaml").write_bytes(content)
    _is_plan_or_error(["--config", "any.yaml", *words])


@FUZZ
@given(data=st.data())
def test_any_damage_to_a_configuration(data: st.DataObject, mutated) -> None:
    whole = Plan.of(recipe=data.draw(st.sampled_from(RECIPES))).as_yaml().encode()
    Path("damaged.yaml").write_bytes(data.draw(mutated(whole)))
    _is_plan_or_error(["--config", "damaged.yaml"])


@FUZZ
@given(words=WORDS, where=st.sampled_from(["last", "logs/mlp/version_0"]) | TEXTS)
def test_any_flags_of_a_run_that_is_resumed(words: list[str], where: str) -> None:
    config = Plan.of("mlp").as_yaml().encode()
    _is_resumed_or_refused(config, ["--resume", where, "--log_dir", "logs", *words])


@FUZZ
@given(content=FILES, words=WORDS)
def test_any_configuration_of_a_run_that_is_resumed(content: bytes, words: list[str]) -> None:
    _is_resumed_or_refused(content, ["--resume", "logs/mlp/version_0", *words])


def _is_resumed_or_refused(config: bytes, words: list[str]) -> None:
    folder = Path("logs/mlp/version_0")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "config.yaml").write_bytes(config)
    status = main(["fit", *words, "--print_config"])
    assert status in (0, 2)
    if status == 0 and not {"-h", "--help"} & {*words}:
        options, given = fit.COMMAND.parse(words)
        if options.resume is not None:  # `--resume null` is none
            again = resume_plan(options.resume, given)[0]
            assert again.settings.model == again.recipe.model
