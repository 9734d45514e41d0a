"""The command: what it lists, exit statuses, streams that fail, and how it is called again."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cifar_lab
from cifar_lab.cli import main
from cifar_lab.cli.parser import Command
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.recipes import recipes
from cifar_lab.run_settings import RUN

MAIN = import_module("cifar_lab.cli.main")  # the package has a function of the same name
ROOT = Path(cifar_lab.__file__).parents[1]
Capture = pytest.CaptureFixture[str]
Tool = Callable[..., None]


def _run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, text=True, env=env, timeout=120, **options)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Makes ``cifar-lab tool`` a command that prints, raises or returns something."""

    def make(status: int = 0, raised: BaseException | None = None, said: str = "") -> None:
        def run(*given: object) -> int:
            print(said, end="")
            if raised:
                raise raised
            return status

        module = ModuleType("tool")
        vars(module).update(COMMAND=Command("tool", "Does things."), run=run)
        monkeypatch.setitem(sys.modules, "cifar_lab.cli.tool", module)
        monkeypatch.setitem(MAIN.COMMANDS, "tool", "does things")

    return make


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_overview_lists_every_command_and_version(words: list[str], call) -> None:
    status, out, err = call(*words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    version = f"cifar-lab {cifar_lab.__version__}"
    assert lines[0].startswith(f"{version}: ")
    assert call("--version") == (0, f"{version}\n", "")
    for name, text in MAIN.COMMANDS.items():
        assert sum(line.split() == [name, *text.split()] for line in lines) == 1
    assert max(map(len, lines)) <= 80
    assert "usage: python -m cifar_lab COMMAND [--FLAG VALUE ...]" in lines
    assert lines[-1] == "example: python -m cifar_lab fit --model cnn"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evalute", ": command evalute: unknown; did you mean evaluate? (known: fit, evaluate,"),
        ("cnn", ": command cnn: unknown (known: fit, evaluate,"),
        ("--model cnn", ": --model: expected a command first, such as: cifar-lab fit --model"),
        ("", ": command : unknown"),
        ("check_gradients --nope", " check-gradients: --nope: unknown"),  # underscores do too
    ],
)
def test_an_unknown_word_is_explained(words: str, message: str, call) -> None:
    status, out, err = call(*words.split(" "))
    assert (status, out) == (2, "")
    assert err.startswith(f"cifar-lab{message}")
    assert err.count("\n") == 1


def test_python_m_is_the_same_as_the_command(call) -> None:
    for words in ([], ["--version"], ["fit", "--print_config"], ["fit", "--nope"]):
        done = _run(sys.executable, "-m", "cifar_lab", *words)
        assert (done.returncode, done.stdout, done.stderr) == call(*words)


@pytest.mark.parametrize("name", MAIN.COMMANDS)
def test_a_script_is_the_command_of_its_name_and_answers_without_anything_heavy(name: str) -> None:
    script = f"scripts/{name.replace('-', '_')}.py"
    heavy = {"torch", "pytorch_lightning", "numpy", "matplotlib", "PIL", "onnx"}
    for flag, status, answer in (
        ("--help", 0, f" {script} "),
        ("--nope", 2, f"cifar-lab {name}: --nope: unknown"),
    ):
        done = _run(sys.executable, "-X", "importtime", script, flag, cwd=ROOT)
        assert done.returncode == status
        assert answer in done.stdout + done.stderr
        assert not heavy & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("name", MAIN.COMMANDS)
def test_help_names_each_flag_and_an_example(name: str, call) -> None:
    command = import_module(f"cifar_lab.cli.{name.replace('-', '_')}").COMMAND
    assert command.name == name
    status, told, _ = call(name, "--help")
    assert status == 0
    lines = told.splitlines()
    assert lines[0].startswith(f"usage: python -m cifar_lab {name} ")
    config = ["config"] if command.plan else []
    for flag in (*command.own, *command.of_run, *config, "help", "version"):
        assert sum(line.startswith(f"  --{flag} ") for line in lines) == 1
    for entry in command.positionals:
        assert entry.name.upper() in lines[0]
        assert any(line.startswith(f"  {entry.name.upper()}") for line in lines)
    assert max(map(len, lines)) <= 90
    assert max(map(len, lines[:-1])) <= 80
    assert len(lines) <= 100
    assert lines[-1] == f"example: python -m cifar_lab {name} {command.example}"
    assert command.example
    assert call(name, "--version") == (0, f"cifar-lab {cifar_lab.__version__}\n", "")


@pytest.mark.parametrize("name", recipes())
def test_the_help_of_fit_shows_the_settings_of_a_recipe(name: str, capsys: Capture) -> None:
    recipe = recipes()[name]
    assert main(["fit", "--recipe", name, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\n") <= 100
    entries = {entry.split()[0]: " ".join(entry.split()) for entry in text.split("\n  --")[1:]}
    assert set(entries) >= {*RUN, *recipe.own}
    for setting, value in recipe.settings.items():  # 0 too is a default
        shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        is_set = value is not None and value is not False and value != []
        assert (f"[{shown}]" in entries[setting]) == is_set, setting


def test_the_help_of_fit_lists_models_recipes_and_other_names(capsys: Capture) -> None:
    assert main(["fit", "--hidden_units", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "models: batchnorm_mlp, cnn, deep_mlp," in text
    assert "deep_mlp_4x1000, deep_mlp_4x1024," in text
    assert "--learning_rate (--lr)" in text
    assert main(["fit", "--help", "--model", "mpl"]) == 2
    assert capsys.readouterr().err.startswith("cifar-lab fit: --model mpl: unknown; did you mean")


OUT = "cifar-lab tool: out of memory"
SMALLER = "A smaller --batch_size needs less.\n"


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (None, 7, ""),
        (UserError("no"), 2, "cifar-lab tool: no\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
        (TrainingEndedError("Stopped.", 130), 130, "\nStopped. Interrupted.\n"),
        (TrainingEndedError("Stopped.", 143), 143, "\nStopped. Interrupted.\n"),
        (TrainingEndedError("a training failed"), 1, "cifar-lab tool: a training failed\n"),
        (MemoryError(), 1, f"{OUT} (MemoryError). {SMALLER}"),
        (RuntimeError("CUDA out of memory.\nTried"), 1, f"{OUT} (CUDA out of memory.). {SMALLER}"),
    ],
)
def test_exit_statuses(raised, status: int, said: str, tool: Tool, call) -> None:
    tool(7, raised)
    assert call("tool") == (status, "", said)


def test_a_defect_is_not_taken_for_an_error_of_the_user(tool: Tool) -> None:
    for error in (RuntimeError("another"), ValueError("another")):
        tool(raised=error)
        with pytest.raises(type(error), match="another"):
            main(["tool"])


def test_a_command_may_have_a_note_for_interruptions(tool: Tool, call, monkeypatch) -> None:
    tool(raised=KeyboardInterrupt())
    module = sys.modules["cifar_lab.cli.tool"]
    monkeypatch.setattr(module, "INTERRUPTED_NOTE", "Go on later.", raising=False)
    assert call("tool") == (130, "", "\nGo on later.\n")


class Unread(io.StringIO):
    """A stream whose reader has ended."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_an_output_that_nobody_reads_keeps_another_status(tool: Tool, monkeypatch) -> None:
    tool(130)
    monkeypatch.setattr("sys.stdout", Unread())
    monkeypatch.setattr(MAIN, "discard", lambda stream: None)
    assert main(["tool"]) == 130


@pytest.mark.parametrize("words", [["fit", "--help"], ["--help"], ["fit", "--print_config"]])
def test_a_pipe_that_nobody_reads_ends_the_command_without_a_word(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = _run(sys.executable, "-m", "cifar_lab", *words, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_names_that_the_output_cannot_show_are_escaped(tool: Tool, monkeypatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    tool(said="фото ü")
    assert main(["tool"]) == 0
    assert shown.getvalue() == b"\\u0444\\u043e\\u0442\\u043e \xfc"


def test_a_missing_stream_is_no_obstacle(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(raised=UserError("no"), said="x")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    assert main(["tool"]) == 2
    assert sys.stderr is not None  # for bars, which write to it
    for name in ("stdout", "stderr"):
        getattr(sys, name).close()


def test_a_closed_error_stream_is_no_obstacle(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    discarded: list[Any] = []
    monkeypatch.setattr("sys.stderr", Unread())
    monkeypatch.setattr(MAIN, "discard", discarded.append)
    tool(raised=UserError("no"))
    assert main(["tool"]) == 2
    assert len(discarded) == 1


def test_a_command_is_called_again_as_it_was_called(tmp_path: Path, monkeypatch) -> None:
    here, bin_folder = tmp_path / "here", tmp_path / "a venv" / "bin"
    here.mkdir()
    bin_folder.mkdir(parents=True)
    for name in ("cifar-lab", "python"):
        (bin_folder / name).touch(0o755)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))
    monkeypatch.setenv("PATH", os.devnull)

    def program(called: str | Path, name: str = "check-gradients", **options: bool) -> str:
        monkeypatch.setattr(sys, "argv", [str(called)])
        return MAIN.program(name, **options)

    command, python = bin_folder / "cifar-lab", f"'{bin_folder}/python'"
    assert program(command) == f"'{command}' check-gradients"
    assert program("../scripts/check_gradients.py") == f"{python} ../scripts/check_gradients.py"
    assert program("x/cifar_lab/__main__.py") == f"{python} -m cifar_lab check-gradients"
    assert program(command, as_typed=True) == "cifar-lab check-gradients"
    assert program("scripts/fit.py", "fit", as_typed=True) == "python scripts/fit.py"
    assert program("-c", "fit", as_typed=True) == "python -m cifar_lab fit"
    assert program("scripts/other.py") == f"{python} -m cifar_lab check-gradients"
    monkeypatch.chdir(tmp_path)  # the virtual environment is below
    assert program(command, "fit") == "'a venv/bin/cifar-lab' fit"
    assert program("-c", "fit") == "'a venv/bin/python' -m cifar_lab fit"
    monkeypatch.chdir(bin_folder)  # a shell does not look here
    assert program(command, "fit") == "./cifar-lab fit"
    monkeypatch.setenv("PATH", str(bin_folder))
    assert program(command, "fit") == "cifar-lab fit"
    assert program("-c", "fit") == "python -m cifar_lab fit"


def test_a_call_is_recorded_as_a_shell_would_take_it() -> None:
    words = ["--data_dir", "my data", "--seed", "1"]
    assert MAIN.command_line("fit", words) == "cifar-lab fit --data_dir 'my data' --seed 1"


@pytest.mark.parametrize("name", MAIN.COMMANDS)
def test_an_address_is_never_taken_for_a_path(name: str, capsys: Capture) -> None:
    command = import_module(f"cifar_lab.cli.{name.replace('-', '_')}").COMMAND
    known = command.own | command.of_run | (RUN if command.plan else {})
    places = ["x"] * len(command.positionals)
    for entry in known.values():
        if entry.is_path or "Path" in str(entry.type) or re.search("folder|file", entry.help):
            # A Path has one slash of two.
            for address in ("s3://bucket/runs", "gs:/bucket/x.svg", ""):
                assert main([name, *places, f"--{entry.name}", address]) == 2
                told = f"--{entry.name} {address}: " if address else f"--{entry.name}"
                assert told in capsys.readouterr().err
    for number, entry in enumerate(command.positionals):
        assert main([name, *places[:number], "s3://x", *places[number + 1 :]]) == 2
        assert f"{entry.name} s3://x: a URL" in capsys.readouterr().err
    assert not list(Path().iterdir())
