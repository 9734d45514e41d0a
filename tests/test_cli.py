"""The command line: order of settings, spellings, help, and what wrong input gets."""

import os
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from cifar_lab.cli import fit, fit_help
from cifar_lab.errors import UserError
from cifar_lab.parsing import parse_fit
from cifar_lab.recipes import recipes
from cifar_lab.settings import FitSettings


def _config(text: str) -> str:
    Path("my.yaml").write_text(text, "utf-8")
    return "my.yaml"


# --- settings ---------------------------------------------------------------------------------


def test_without_flags_it_is_the_cnn_of_the_report() -> None:
    plan = parse_fit([])
    assert plan.recipe.name == "cnn"
    assert (plan.settings.batch_size, plan.settings.max_steps) == (32, 5000)
    assert plan.model_settings["lr"] == 1e-4


def test_flags_come_before_the_configuration_and_that_before_the_recipe() -> None:
    config = _config("model: mlp\nlr: 1e-2\nbatch_size: 50\nseed: 3\n")
    plan = parse_fit(["--config", config, "--batch_size", "60"])
    assert plan.settings.model == "mlp"  # the file names the model
    assert plan.model_settings["lr"] == 0.01  # from the file
    assert plan.settings.batch_size == 60  # from the flag
    assert plan.settings.max_steps == 1500  # from the recipe
    assert parse_fit(["--batch_size", "60", "--config", config]) == plan  # wherever they stand
    assert parse_fit(["-c", config, "--batch_size", "60"]) == plan


def test_a_flag_for_another_model_comes_before_the_configuration() -> None:
    assert parse_fit(["--config", _config("model: mlp\n"), "--model", "cnn"]).recipe.name == "cnn"


def test_what_is_printed_repeats_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--recipe",
        "deep_mlp_5x1000",
        "--dropout",
        "0.3",
        "--augment",
        "flip",
        "--val_size",
        "0",
    ]
    assert fit([*flags, "--print_config"]) == 0
    config = _config(capsys.readouterr().out)
    assert parse_fit(["--config", config]) == parse_fit(flags)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--batch-size", "7"], "batch_size", 7),
        (["--batch_size=7"], "batch_size", 7),
        (["--eval_freq", "7"], "eval_every", 7),
        (["--deterministic"], "deterministic", True),
        (["--deterministic", "false"], "deterministic", False),
        (["--deterministic", "--seed", "1"], "deterministic", True),
        (["--augment", "flip,crop"], "augment", ["flip", "crop"]),
        (["--augment", "none"], "augment", []),
        (["--mirror", "http://a/x,http://b/x"], "mirror", ["http://a/x", "http://b/x"]),
        (["--val_size", "0"], "val_size", 0),
        (["--data_dir=~"], "data_dir", "~"),  # YAML's null
        (["--limit_val_batches", "1"], "limit_val_batches", 1),
        (["--limit_val_batches", "1.0"], "limit_val_batches", 1.0),
        (["--max_epochs", "3"], "max_steps", None),
        (["--max_epochs", "3"], "max_epochs", 3),
        (["--model", "mlp", "--dnn_hidden_units", "100,50"], "hidden_units", [100, 50]),
        (["--model", "mlp", "--hidden-units", "100"], "hidden_units", [100]),
        (["--model", "mlp", "--learning_rate", "1e-3"], "lr", 1e-3),
        (["--model", "deep_mlp", "--weight_norm", "false"], "weight_norm", False),
    ],
)
def test_spellings_of_flags(words: list[str], name: str, value: object) -> None:
    found = parse_fit(words).as_config()[name]
    assert found == value
    assert type(found) is type(value)  # 1 is one batch, 1.0 all


def test_a_configuration_may_name_a_number_of_devices_and_use_dashes() -> None:
    settings = parse_fit(["--config", _config("devices: 2\nbatch-size: 9\n")]).settings
    assert (settings.devices, settings.batch_size) == ("2", 9)


# --- help -------------------------------------------------------------------------------------


def test_help_names_every_setting_the_shared_ones_on_less_than_two_screens() -> None:
    for recipe in recipes().values():
        text = fit_help(recipe)
        assert all(f"--{name} " in text for name in recipe.settings)
        own = set(recipe.settings) - {field.name for field in fields(FitSettings)}
        assert len(text.splitlines()) - len(own) < 57
        assert max(map(len, text.splitlines())) <= 110
        for name, value in recipe.settings.items():  # 0 too is a default
            shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            tells = any(f"--{name} " in line and f"[{shown}]" in line for line in text.splitlines())
            assert tells == (value is not None and value is not False and value != [])


def test_help_and_errors_come_without_torch() -> None:
    code = (
        "import sys; from cifar_lab.cli import fit; fit(['--help']); fit(['--nope']); "
        "sys.exit(bool({'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# --- wrong input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modle", "mlp"], "--modle: unknown; did you mean --model?"),
        (["--mod", "mlp"], "--mod: unknown; did you mean --model?"),  # no abbreviations
        (["--model", "mpl"], "--model mpl: unknown; did you mean mlp?"),
        (["--recipe", "cnnn"], "--recipe cnnn: unknown; did you mean cnn?"),
        (["--recipe", "cnn", "--model", "mlp"], "--recipe cnn: a recipe for cnn, not for mlp"),
        (["--dropout", "0.1"], "--dropout: a setting of deep_mlp, fast_mlp, not of cnn"),
        (["--batch_size", "-5"], "--batch_size -5: expected a positive integer"),
        (["--batch_size", "many"], "--batch_size many: expected a positive integer"),
        (["--batch_size"], "--batch_size: expected a value"),
        (["--batch_size", "--seed", "1"], "--batch_size: expected a value"),
        (["--seed", "4294967296"], "--seed 4294967296: expected an integer from 0"),
        (["--lr", "fast"], "--lr fast: expected a number"),
        (["--lr", "1:30"], "--lr 1:30: expected a number"),
        (["--lr", ""], "--lr '': expected a number"),
        (["--batch_size", "1" + 30 * "0"], "expected a positive integer"),
        (["--accelerator", "tpu"], "--accelerator tpu: expected one of auto, cpu, gpu, mps"),
        (["--model", "mlp", "--hidden_units", "9,ten"], "--hidden_units 9,ten: expected integers"),
        (["--max_steps", "5", "--max_epochs", "1"], "--max_steps 5 and --max_epochs 1: give one"),
        (["cnn"], "'cnn': expected a flag, such as --model cnn"),
        (["-model", "cnn"], "'-model': expected a flag, with two dashes"),
        (["--ckpt-path", "last.ckpt"], "--ckpt_path: unknown; did you mean --resume?"),
        (["--gpus", "2"], "--gpus: unknown; did you mean --devices?"),
        (["-c", "missing.yaml"], "--config missing.yaml: cannot be read"),
        (["--config", "missing.yaml"], "--config missing.yaml: cannot be read"),
    ],
)
def test_wrong_flags_are_explained_in_a_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_fit(words)
    assert message in str(caught.value)
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte: 1\n", "--config my.yaml: learning_rte: unknown; did you mean"),
        ("lr: [1, 2]\n", "--config my.yaml: lr [1, 2]: expected a number"),
        ("- a list\n", "expected lines of the form 'setting: value'"),
        ("lr: {\n", "not a YAML file"),
        ("model: mpl\n", "--config my.yaml: model mpl: unknown; did you mean mlp?"),
        ("recipe: cnnn\n", "--config my.yaml: recipe cnnn: unknown; did you mean cnn?"),
    ],
)
def test_a_wrong_configuration_is_explained_in_a_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_fit(["--config", _config(text)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_no_small_file_is_refused_at_once() -> None:
    os.mkfifo("pipe")
    Path("large").write_text("#" * 70_000)
    for path, message in (
        ("pipe", "--config pipe: not a file"),
        ("/dev/zero", "--config /dev/zero: not a file"),
        (".", "--config .: not a file"),
        ("large", "--config large: too large (70,000 bytes; at most 65,536 are read)"),
        ("nul\0", "--config 'nul\\x00': cannot be read"),
    ):
        with pytest.raises(UserError) as caught:
            parse_fit(["--config", path])
        assert message in str(caught.value)


def test_few_lines_do_not_stand_for_billions_of_values() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in pairwise("abcdefghij")]
    for text in ("\n".join(lines), "lr: &a [*a]", "[" * 30_000, "a: &a {b: 1}\n<<: *a"):
        with pytest.raises(UserError, match=r"not a YAML file") as caught:
            parse_fit(["--config", _config(text)])
        assert len(str(caught.value)) < 200


def test_an_error_has_status_2_and_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(["--nope"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fit.py: --nope: unknown")


def test_print_config_is_yaml_with_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(["--print-config", "--model", "mlp"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == parse_fit(["--model", "mlp"]).as_config()


def test_a_pipe_that_nobody_reads_ends_the_command_without_a_word() -> None:
    words = [sys.executable, str(Path(__file__).parents[1] / "scripts" / "fit.py"), "--help"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, told = process.communicate()
    assert (process.returncode, told) == (141, b"")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--print_config=true"], "fit.py: --print_config: takes no value"),
        (["--config", "x.yaml"], "fit.py: --config x.yaml: help: a flag, not a setting"),
        (
            ["--config", "y.yaml", "--model", "mlp"],
            "fit.py: --config y.yaml: recipe cnn: a recipe f",
        ),
    ],
)
def test_what_is_no_setting_is_said(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.yaml").write_text("help: true\n")
    Path("y.yaml").write_text("recipe: cnn\n")
    assert fit(words) == 2
    assert capsys.readouterr().err.startswith(said)
