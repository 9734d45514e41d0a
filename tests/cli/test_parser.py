"""The parser: order of settings, spellings, configurations, and what is said of wrong words."""

import os
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from cifar_lab.cli import fit, main
from cifar_lab.cli.parser import CHECKPOINT, OWN_MODEL, Command, plan_of
from cifar_lab.errors import UserError
from cifar_lab.plan import RUN, Plan
from cifar_lab.recipes import recipes
from cifar_lab.settings import PositiveInt, Setting, setting

Capture = pytest.CaptureFixture[str]


def _plan(*words: str) -> Plan:
    return plan_of(fit.COMMAND.parse(words)[1])


def _config(text: str) -> str:
    Path("my.yaml").write_text(text, "utf-8")
    return "my.yaml"


def test_flags_come_before_the_configuration_and_that_before_the_recipe() -> None:
    config = _config("model: mlp\nlr: 1e-2\nbatch_size: 50\nseed: 3\n")
    plan = _plan("--config", config, "--batch_size", "60")
    assert plan.settings.model == "mlp"  # the file names the model
    assert plan.model_settings["lr"] == 0.01  # from the file
    assert plan.settings.batch_size == 60  # from the flag
    assert plan.settings.max_steps == 1500  # from the recipe
    assert _plan("--batch_size", "60", "--config", config) == plan  # wherever they stand
    assert _plan("-c", config, "--batch_size", "60") == plan
    assert _plan("--config", config, "--model", "cnn").recipe.name == "cnn"


def test_a_command_may_choose_settings_that_flags_and_the_file_override() -> None:
    given = {"config": _config("batch-size: 50\n"), "lr": "0.25"}
    plan = plan_of(given, before={"seed": 7, "batch_size": 9, "lr": 0.5})
    found = plan.settings.seed, plan.settings.batch_size, plan.model_settings["lr"]
    assert found == (7, 50, 0.25)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--batch-size", "7"], "batch_size", 7),
        (["--batch_size=7"], "batch_size", 7),
        (["--batch_size", "6", "--batch_size", "7"], "batch_size", 7),
        (["--eval_freq", "7"], "eval_every", 7),
        (["--deterministic"], "deterministic", True),
        (["--deterministic", "false"], "deterministic", False),
        (["--deterministic", "--seed", "1"], "deterministic", True),
        (["--deterministic", "-c", "empty.yaml"], "deterministic", True),
        (["--augment", "flip,crop"], "augment", ["flip", "crop"]),
        (["--data_dir=~"], "data_dir", "~"),  # YAML's null
        (["--data_dir", "-x"], "data_dir", "-x"),
        (["--limit_val_batches", "1.0"], "limit_val_batches", 1.0),
        (["--max_epochs", "3"], "max_steps", None),
        (["--max_epochs", "3"], "max_epochs", 3),
        (["--model", "mlp", "--dnn_hidden_units", "100,50"], "hidden_units", [100, 50]),
        (["--model", "mlp", "--learning_rate", "1e-3"], "lr", 1e-3),
        (["--model", "deep_mlp", "--weight_norm", "false"], "weight_norm", False),
        (["--model", "deep_mlp", "--weight_norm", "--seed", "1"], "weight_norm", True),
    ],
)
def test_spellings_of_flags(words: list[str], name: str, value: object) -> None:
    Path("empty.yaml").write_text("{}")
    found = _plan(*words).as_config()[name]
    assert found == value
    assert type(found) is type(value)  # 1 is one batch, 1.0 all


@pytest.mark.parametrize("name", recipes())
def test_print_config_prints_every_setting_and_repeats_the_run(name: str, capsys: Capture) -> None:
    flags = ["--recipe", name, "--augment", "flip", "--val_size", "0"]
    assert main(["fit", *flags, "--print-config", "--seeds", "7,8"]) == 0  # no setting
    printed = capsys.readouterr().out
    assert list(yaml.safe_load(printed).items()) == list(_plan(*flags).as_config().items())
    assert _plan("--config", _config(printed)) == _plan(*flags)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modle", "mlp"], "--modle: unknown; did you mean --model?"),
        (["--mod", "mlp"], "--mod: unknown; did you mean --model?"),  # no abbreviations
        (["--nope"], "--nope: unknown"),
        (["--"], "--: unknown; --help lists all"),
        (["--model", "mpl"], "--model mpl: unknown; did you mean mlp?"),
        (["--batch_size", "-5"], "--batch_size -5: expected a positive integer"),
        (["--batch_size"], "--batch_size: expected a value"),
        (["--batch_size", "--seed", "1"], "--batch_size: expected a value"),
        (["--lr", ""], "--lr '': expected a number"),
        (["--accelerator", "tpu"], "--accelerator tpu: expected one of auto, cpu, gpu, mps"),
        (["--deterministic", "maybe"], "--deterministic maybe: expected true or false"),
        (["--max_steps", "5", "--max_epochs", "1"], "--max_steps 5 and --max_epochs 1: give one"),
        (["cnn"], "'cnn': expected a flag, such as --model cnn"),
        (["-model", "cnn"], "'-model': expected a flag, with two dashes"),
        (["--ckpt-path", "last.ckpt"], "--ckpt_path: unknown; did you mean --resume?"),
        (["--gpus", "2"], "--gpus: unknown; did you mean --devices?"),
        (["--num_threads", "4"], "--num_threads: unknown; did you mean --threads?"),
        (["--num_workers", "4"], "--num_workers: unknown; batches come from memory, without"),
        (["--activation", "gelu"], "--activation: unknown; each model has its own activation"),
        (["--epochs", "3"], "--epochs: unknown; did you mean --max_epochs?"),
        (["--bs", "8"], "--bs: unknown; did you mean --batch_size?"),
        (["--hidden_unit", "8"], "--hidden_unit: unknown; did you mean --hidden_units?"),
        (["--hidden_units", "100", "50"], "--hidden_units 100 50: expected commas between the"),
        (["-c", "a.yaml", "--config", "b.yaml"], "--config a.yaml and b.yaml: only one file"),
        (["-c", "missing.yaml"], "--config missing.yaml: cannot be read"),
        (["-c", "nul\0"], "--config 'nul\\x00': cannot be read"),
        (["-c", "pipe"], "--config pipe: not a file"),
        (["-c", "/dev/zero"], "--config /dev/zero: not a file"),
        (["-c", "."], "--config .: not a file"),
        (["-c", "large"], "--config large: too large (70,000 bytes; at most 65,536 are read)"),
        (["-c", "cnn.yaml", "--model", "mlp"], "--config cnn.yaml: recipe cnn: a recipe for cnn"),
        (["--seeds", "4..0"], "--seeds 4..0: expected integers separated by commas, or a range"),
        (["--print_config=maybe"], "--print_config maybe: expected true or false"),
    ],
)
def test_wrong_flags_are_explained_in_a_line(words: list[str], message: str) -> None:
    os.mkfifo("pipe")
    Path("large").write_text("#" * 70_000)
    Path("cnn.yaml").write_text("recipe: cnn\n")
    with pytest.raises(UserError) as caught:
        _plan(*words)
    assert message in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_resume_alone_means_the_last_run() -> None:
    assert fit.COMMAND.parse(["--seed", "1", "--resume"])[0].resume == "last"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte: 1\n", "--config my.yaml: learning_rte: unknown; did you mean"),
        ("seed: null\n", "--config my.yaml: seed None: expected an integer"),
        ("- a list\n", "expected lines of the form 'setting: value'"),
        ("1: 2\n", "expected lines of the form 'setting: value'"),
        ("lr: {\n", "not a YAML file"),
        ("help: true\n", "--config my.yaml: help: a flag, not a setting"),
        ("seeds: 0..4\n", "--config my.yaml: seeds: a flag, not a setting"),
        ("print-config: true\n", "--config my.yaml: print-config: a flag, not a setting"),
    ],
)
def test_a_wrong_configuration_is_explained_in_a_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        _plan("--config", _config(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_few_lines_do_not_stand_for_billions_of_values() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in pairwise("abcdefghij")]
    for text in ("\n".join(lines), "lr: &a [*a]", "[" * 30_000, "a: &a {b: 1}\n<<: *a"):
        with pytest.raises(UserError, match=r"not a YAML file") as caught:
            _plan("--config", _config(text))
        assert len(str(caught.value)) < 200


@dataclass(frozen=True)
class Options:
    """The flags of a small command."""

    top: PositiveInt = setting(3, "how many")
    output: Path | None = setting(None, "a file")
    json: bool = setting(False, "print JSON")


IMAGE = Setting("image", Path, [], "image files", "arguments")
SMALL = Command(
    "small",
    "Does things.",
    Options,
    positionals=(CHECKPOINT, IMAGE),
    shared=("data_dir", replace(RUN["batch_size"], default=500), OWN_MODEL),
)


def _small(*words: str) -> Any:
    return SMALL.parse(words)[0]


def test_positional_words_and_flags_in_any_order() -> None:
    paths = {"ckpt": Path("a-b.ckpt"), "image": [Path("x"), Path("y")], "output": None}
    run = {"data_dir": "x-y", "batch_size": 500, "model": None}
    expected = SimpleNamespace(**paths, **run, top=2, json=True)
    assert _small("a-b.ckpt", "x", "y", "--top", "2", "--json", "--data-dir=x-y") == expected
    assert _small("--json", "a-b.ckpt", "--top=2", "x", "--data_dir", "x-y", "y") == expected
    assert _small("c", "x", "--json", "false").json is False
    assert _small("c", "x", "--output", "~/f").output == Path.home() / "f"


def test_shared_settings_are_typed_and_also_given_as_they_were_written() -> None:
    options, given = SMALL.parse(["c", "x", "--batch-size", "07", "--top", "1"])
    assert options.batch_size == 7
    assert given == {"batch_size": "07"}


def test_behind_two_dashes_everything_is_a_path() -> None:
    images = _small("c", "--top", "2", "--", "--my-photo.png", "-h").image
    assert images == [Path("--my-photo.png"), Path("-h")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "CKPT: missing; --help shows what is expected"),
        (["c"], "IMAGE: missing; --help shows what is expected"),
        (["c", ""], "IMAGE: expected a path, got nothing"),
        (["c", "x", "--output", ""], "--output '': expected a path"),
        (["c", "x", "--json=7"], "--json 7: expected true or false"),
        (["c", "-x"], "'-x': expected a flag, with two dashes"),
        (["c", "x", "--gpus", "1"], "--gpus: unknown; --help lists all"),  # it has no --devices
        (["c", "x", "--model", "own:Net", "--widht", "1"], "--widht: unknown"),
    ],
)
def test_wrong_words_of_a_small_command_are_explained(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        _small(*words)
    assert str(caught.value).startswith(message)


def test_a_word_too_many_is_shown() -> None:
    with pytest.raises(UserError, match=r"^'y': not expected here; --help shows what is"):
        replace(SMALL, positionals=(CHECKPOINT,)).parse(["x", "y"])
