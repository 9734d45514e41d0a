"""The soak trial: it kills at the right moments, compares bit by bit, and reports a difference."""

import json
import random
import signal
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import killed_run
import soak
from cifar_lab.models import REGISTRY
from cifar_lab.plan import Plan
from cifar_lab.run.run import Run
from cifar_lab.training.fit import train
from killed_run import KilledRun, differences


@pytest.mark.slow
def test_two_kills_are_survived(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "mlp", "--kills", "2", "--max_steps", "60", "--checkpoint_seconds", "0.1"]
    flags = "--hidden_units 8 --batch_size 12 --eval_every 25 --dashboard off"
    assert soak.main([*words, "--data_dir", str(tree), f"--flags={flags}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (trial,) = found["trials"]
    assert trial["same"]
    assert trial["kills"] >= 1
    assert trial["unreadable"] == 0


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch):
    """A run of a Python text in place of the package."""

    def make(text: str) -> KilledRun:
        monkeypatch.setattr(killed_run, "FIT", text)
        return KilledRun([], Path("killed"))

    return make


def test_a_run_that_ends_by_itself_is_no_kill(killed) -> None:
    run = killed("import sys; print('it broke'); sys.exit(1)")
    failure = "fit ended with status 1: it broke"
    assert run.run_and_kill(60.0, while_writing=False) == f"not needed, {failure}"
    run.finish()
    assert run.failures == [failure] * 2
    crashed = killed("import os; os.abort()")
    told = crashed.run_and_kill(60.0, while_writing=False)
    assert told.startswith("not needed, fit ended with status")
    assert run.counts()["kills"] == crashed.counts()["kills"] == 0


# Opens the run after a while, and writes a checkpoint after another while.
OPENS = """
import pathlib, time
folder = pathlib.Path("killed/mlp/version_0")
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
time.sleep(0.5)
for part in folder.rglob("*.part"):
    part.unlink()
(folder / "config.yaml.part").write_text("seed: 0")
(folder / "config.yaml.part").replace(folder / "config.yaml")
time.sleep(0.5)
(folder / "checkpoints" / "last.ckpt.part").touch()
time.sleep(60)
"""


def test_the_delay_begins_when_the_run_is_opened_also_the_second_time(killed) -> None:
    run = killed(OPENS)
    for _ in range(2):
        start = time.monotonic()
        assert run.run_and_kill(0.1, while_writing=False) == "before the first checkpoint"
        assert 0.6 < time.monotonic() - start < 30
    start = time.monotonic()
    run.run_and_kill(-0.1, while_writing=False)
    assert 0.1 < time.monotonic() - start < 0.5


def test_a_checkpoint_that_is_cut_off_is_counted_once(killed) -> None:
    run = killed(OPENS)
    told = [run.run_and_kill(0.0, while_writing=True), run.run_and_kill(-0.1, while_writing=False)]
    half = "before the first checkpoint, a checkpoint half written"
    assert told == [half, "before the first checkpoint"]  # the second kill found the same file
    assert run.counts() == {"kills": 2, "written": 0, "cut_off": 1, "unreadable": 0}


def test_a_damaged_checkpoint_is_reported(killed) -> None:
    run = killed("import time; time.sleep(60)")
    path = Path("killed/mlp/version_0/checkpoints/last.ckpt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    assert "damaged or not a checkpoint" in run.run_and_kill(-0.1, while_writing=False)
    assert run.unreadable == 1


def test_nothing_is_left_running(killed, monkeypatch: pytest.MonkeyPatch) -> None:
    run = killed("import time; time.sleep(60)")
    watch = Mock(side_effect=ZeroDivisionError)
    monkeypatch.setattr(KilledRun, "_watch", watch)
    with pytest.raises(ZeroDivisionError):
        run.finish()
    assert watch.call_args.args[0][0].exitcode == -signal.SIGKILL


def test_one_kill_in_five_comes_before_the_run_is_opened() -> None:
    delays = soak._delays(random.Random(0), 11, opening=6.0, starting=2.0, training=22.0)
    assert [delay < 0 for delay in delays] == [number % 5 == 3 for number in range(11)]
    assert all(-6 <= delay <= 2 + 1.2 * 22 / 11 for delay in delays)


def test_a_zero_with_a_minus_is_another_one() -> None:
    assert not killed_run.same(torch.zeros(2), -torch.zeros(2))
    assert killed_run.same({"a": [torch.zeros(2)]}, {"a": [torch.zeros(2)]})


def test_a_difference_in_the_last_bit_is_reported(tree: Path) -> None:
    settings = {"hidden_units": 8, "data_dir": tree, "batch_size": 12, "max_steps": 4}
    plan = Plan.of("mlp", **settings, dashboard="off", progress="none")
    first, second = (Run(train(plan, command="test").run.folder) for _ in range(2))
    assert differences(first, second) == []
    path = second.folder.last_checkpoint
    content = torch.load(path, weights_only=True)
    bias = content["state_dict"]["network.1.bias"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(1.0))
    torch.save(content, path)
    assert differences(first, second) == ["state_dict"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(-1.0))
    content["optimizer_states"][0]["param_groups"][0]["lr"] *= 1.01
    torch.save(content, path)
    assert differences(first, second) == ["optimizer_states"]
    table = second.folder.metrics
    table.write_text(table.read_text().replace("4,", "4,1", 1))
    assert differences(first, second)[1] == "metrics.csv: 2 and 2 rows"


def test_the_kills_are_divided_among_models_lengths_and_modes() -> None:
    words = ["--model", "all", "--modes", "one,devices", "--max_epochs", "2", "--kills", "40"]
    options, given = soak.COMMAND.parse([*words, "--flags=--widths 8 --lr 0.1"])
    trials = list(soak._trials(options, given))
    kinds = {(trial.model, trial.length, trial.mode) for trial in trials}
    assert len(kinds) == len(trials) == 2 * (2 * len(REGISTRY) - 1)  # numpy_mlp: one process
    assert sum(trial.kills for trial in trials) == 40
    for trial in trials:
        assert ("--widths=8" in trial.words) == (trial.model == "fast_cnn")
        assert ("--devices=2" in trial.words) == (trial.mode == "devices")
        assert sum(word.startswith("--max_") for word in trial.words) == 1
        assert "--lr=0.1" in trial.words


def test_the_page_has_the_numbers_that_the_trials_wrote() -> None:
    docs = Path(soak.__file__).parents[1] / "docs"
    page = (docs / "reliability.md").read_text("utf-8")
    trials = json.loads((docs / "soak.json").read_text("utf-8"))["trials"]
    kills, seen, cut, _ = (sum(trial[name] for trial in trials) for name in soak.COUNTS)
    told = f"{kills} kills in {len(trials)} trials, {seen} checkpoints seen, {cut} cut off"
    assert told in " ".join(page.split())
    assert f"<!-- soak -->\n{soak.table(trials)}\n<!-- end -->" in page
