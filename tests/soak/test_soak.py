"""``scripts/soak.py``: it kills, it compares, and it tells a difference."""

import json
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from cifar_lab.cli import fit
from cifar_lab.soak import comparison, killed_run
from cifar_lab.soak.command import main
from cifar_lab.soak.comparison import differences


@pytest.mark.slow
def test_two_kills_are_survived(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "mlp", "--kills", "2", "--max_steps", "60", "--checkpoint_seconds", "0.1"]
    flags = "--hidden_units 8 --batch_size 12 --eval_every 25 --dashboard off"
    assert main([*words, "--data_dir", str(tree), f"--flags={flags}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"]
    assert found["kills"] >= 1
    assert found["unreadable"] == 0


def test_a_run_that_ends_by_itself_is_no_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killed_run, "PROGRAM", "import sys; print('it broke'); sys.exit(1)")
    run = killed_run.KilledRun([], Path("killed"))
    told = run.run_and_kill(60.0, while_writing=False)
    assert told == "not needed, fit.py ended with status 1: it broke"
    run.finish()
    assert run.counts()["kills"] == 0
    assert run.failures == ["fit.py ended with status 1: it broke"] * 2


def test_a_crash_is_no_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killed_run, "PROGRAM", "import os; os.abort()")
    run = killed_run.KilledRun([], Path("killed"))
    assert run.run_and_kill(60.0, while_writing=False).startswith(
        "not needed, fit.py ended with status"
    )
    assert run.counts()["kills"] == 0


def test_nothing_is_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(killed_run, "PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    monkeypatch.setattr(killed_run, "_checkpoint", lambda log_dir: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        killed_run.run_undisturbed([], Path("whole"))
    assert started[0].returncode == -signal.SIGKILL


def test_a_zero_with_a_minus_is_another_one() -> None:
    assert not comparison._same(torch.zeros(2), -torch.zeros(2))
    assert comparison._same({"a": [torch.zeros(2)]}, {"a": [torch.zeros(2)]})


def test_a_difference_in_the_last_bit_is_told(tree: Path) -> None:
    flags = f"--model mlp --hidden_units 8 --data_dir '{tree}' --batch_size 12 --max_steps 4"
    for log_dir in ("first", "second"):
        assert fit(shlex.split(f"{flags} --dashboard off --progress none --log_dir {log_dir}")) == 0
    assert differences(Path("first"), Path("second")) == []
    path = Path("second/mlp/version_0/checkpoints/last.ckpt")
    content = torch.load(path, weights_only=True)
    bias = content["state_dict"]["network.1.bias"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(1.0))
    torch.save(content, path)
    assert differences(Path("first"), Path("second")) == ["state_dict"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(-1.0))
    content["optimizer_states"][0]["param_groups"][0]["lr"] *= 1.01
    torch.save(content, path)
    assert differences(Path("first"), Path("second")) == ["optimizer_states"]
    table = Path("second/mlp/version_0/metrics.csv")
    table.write_text(table.read_text().replace("4,", "4,1", 1))
    assert differences(Path("first"), Path("second"))[1] == "metrics.csv: 2 and 2 rows"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "a_file/x"], "--output a_file/x: cannot be written"),
        (["--flags", "'open"], "--flags 'open: "),
        (["--kills", "0"], "positive integer"),
        (["--modle", "mlp"], "did you mean --model"),
    ],
)
def test_wrong_input(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a_file").touch()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
