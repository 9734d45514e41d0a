"""A sweep: its space, its trials, its winner, and what happens when its processes are killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml

from cifar_lab.errors import UserError
from cifar_lab.experiments import sweep_page
from cifar_lab.experiments.space import parse_space
from cifar_lab.experiments.sweep import Sweep
from cifar_lab.experiments.trials import take, work
from cifar_lab.plan import Plan

PLAN = Plan.of("mlp", log_dir="logs", max_steps=4, eval_every=2, hidden_units=4, batch_size=20)
PLAN = PLAN.replace(dashboard="off", precision="32-true", accelerator="cpu")
FLAGS = ["sweep", "--model", "mlp", "--log_dir", "logs", "--max_steps", "4", "--eval_every", "2"]
FLAGS += ["--hidden_units", "4", "--batch_size", "20", "--dashboard", "off"]
FLAGS += ["--accelerator", "cpu", "--precision", "32-true"]
SPACE = ["lr=1e-4..1e-2:log", "optimizer=sgd,adam"]


def _sweep(tree: Path, **settings: object) -> Sweep:
    plan = PLAN.replace(data_dir=str(tree))
    words = settings.pop("words", SPACE)
    usual = {"seeds": [0], "trials": 3, "sampler": "random"}
    return Sweep("s", plan, parse_space(words, plan), words, **{**usual, **settings})


def _states(sweep: Sweep) -> list[str]:
    return [trial.state.name for trial in sweep.open().trials]


def test_a_space_has_the_types_of_its_settings() -> None:
    words = ["lr=1e-4..1e-2:log", "batch_size=16..64", "optimizer=sgd,adam", "hidden_units=8|9,10"]
    space = parse_space([*words, "--accumulate-grad-batches=1,2"], PLAN)
    assert space == {
        "lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "batch_size": optuna.distributions.IntDistribution(16, 64),
        "optimizer": optuna.distributions.CategoricalDistribution(["sgd", "adam"]),
        "hidden_units": optuna.distributions.CategoricalDistribution(["8", "9,10"]),
        "accumulate_grad_batches": optuna.distributions.CategoricalDistribution(["1", "2"]),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--space: missing; for example --space lr=1e-4..1e-2:log"),
        (["--space", "lr"], "--space lr: expected NAME=LOW..HIGH"),
        (["--space", "=1..2"], "--space =1..2: expected NAME=LOW..HIGH"),
        (["--space", "lr=1e-4..1e-2:lg"], "--space lr=1e-4..1e-2:lg: expected NAME=LOW..HIGH"),
        (["--space", "optimizer=adam,sgdd"], "--space optimizer=sgdd: optimizer 'sgdd': expected"),
        (["--space", f"hidden_units=8|{10**11}"], f"--space hidden_units={10**11}: mlp: cannot be"),
        (["--space", "lr=1..2", "--study", "../x"], "--study ../x: expected a name, not a path"),
        (["--space", "lrr=1..2"], "--space lrr: unknown; did you mean --space lr?"),
        (["--space", "lr=1e-2..1e-4"], "expected a lower and a higher end"),
        (["--space", "weight_decay=0..1:log"], "expected a lower and a higher end, above 0"),
        (["--space", "lr=a..b"], "--space lr a: expected a number"),
        (["--space", "batch_size=0..9"], "--space batch_size 0: expected a positive integer"),
        (["--space", "optimizer=sgd"], "expected a range or several choices"),
        (["--space", "hidden_units=8..9"], "a range is for numbers"),
        (["--space", "seed=1,2"], "--space seed: cannot be searched; give --seeds"),
        (["--space", "log_dir=a,b"], "does not change the result of a training"),
        (["--space", "lr=1,2", "--space", "lr=3,4"], "--space lr: given twice"),
        (["--space", "lr=1,2", "--val_size", "0"], "would select on the test set"),
        (["--space", "lr=1..2", "--sampler", "grid"], "--sampler grid: give choices"),
    ],
)
def test_what_cannot_be_searched_is_refused(refused, words, message) -> None:
    assert message in refused(*FLAGS, *words)


def test_a_sweep_selects_on_the_validation_split_and_tests_the_winner_once(
    tree, json_of, monkeypatch
) -> None:
    words = [*FLAGS, "--data_dir", str(tree), "--trials", "4", "--seeds", "0,1"]
    words += [part for word in SPACE for part in ("--space", word)]
    found = json_of(*words)
    assert (found["complete"], found["pruned"]) == (4, 0)
    folder = Path("logs/sweep_mlp")
    for row in found["trials"]:
        summaries = [json.loads((folder / run / "summary.json").read_text()) for run in row["runs"]]
        assert [summary["seed"] for summary in summaries] == [0, 1]
        assert all(summary["accuracy"].keys() == {"val"} for summary in summaries)
        best = [summary["accuracy"]["val"]["best"] for summary in summaries]
        assert row["value"] == pytest.approx(sum(best) / 2)
        assert summaries[0]["settings"]["note"] == f"sweep_mlp, trial {row['number']}"
    winner = found["winner"]
    assert winner["val"] == max(row["value"] for row in found["trials"])
    assert len(winner["test"]) == 2
    assert yaml.safe_load((folder / "best.yaml").read_text())["lr"] == winner["params"]["lr"]
    assert (folder / "sweep.png").stat().st_size > 10_000
    page = (folder / "sweep.html").read_text("utf-8")
    assert page.count("<svg") == 1
    assert page.count("<tr>") == 1 + 4
    monkeypatch.setattr(sweep_page, "_test", None)  # neither trained nor tested again
    again = json_of(*words)
    assert {**again, "command": ""} == {**found, "command": ""}
    with pytest.raises(AssertionError, match=r"\(they differ in batch_size\)"):
        json_of(*words, "--batch_size", "10", "--lr", "0.5")  # lr is searched


def test_a_grid_has_each_point_once(tree) -> None:
    sweep = _sweep(tree, words=["lr=0.001,0.002", "optimizer=sgd,adam"], sampler="grid", trials=9)
    work(sweep)
    points = {(trial.params["lr"], trial.params["optimizer"]) for trial in sweep.open().trials}
    assert (len(points), _states(sweep)) == (4, ["COMPLETE"] * 4)


def test_a_trial_whose_process_is_gone_is_done_again_with_its_values(tree) -> None:
    sweep = _sweep(tree)
    lost = sweep.open().ask(sweep.space)
    work(sweep)
    trials = sweep.open().trials
    assert _states(sweep) == ["FAIL", *["COMPLETE"] * 3]
    assert (trials[1].params, trials[1].user_attrs["resumes"]) == (lost.params, 0)


def test_a_lost_point_of_a_grid_is_trained_again(tree) -> None:
    sweep = _sweep(tree, words=["lr=0.001,0.002"], sampler="grid")
    sweep.open().ask()  # killed before it had read a value
    work(sweep)
    values = [trial.params.get("lr") for trial in sweep.open().trials]
    assert (values, _states(sweep)) == ([None, "0.002", "0.001"], ["FAIL", *["COMPLETE"] * 2])


def test_processes_that_open_a_sweep_at_the_same_time_draw_different_values(tree) -> None:
    sweep = _sweep(tree)
    studies = [sweep.open(), sweep.open()]
    with contextlib.ExitStack() as stack:
        trials = [take(sweep, study, stack) for study in studies]
    assert trials[0].params["lr"] != trials[1].params["lr"]


def test_a_database_without_the_folder_is_refused(tree) -> None:
    storage = f"sqlite:///{Path('study.db').absolute()}"
    _sweep(tree, storage=storage).open()
    other = _sweep(tree, storage=storage)
    with pytest.raises(UserError, match="--log_dir other: study s has its runs in another folder"):
        replace(other, plan=other.plan.replace(log_dir="other")).open()


def test_pruned_and_failed_trials_count(tree, monkeypatch, refused) -> None:
    never = optuna.pruners.ThresholdPruner(lower=2.0)
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda: never)
    sweep = _sweep(tree, pruner="median", trials=2)
    work(sweep)
    assert _states(sweep) == ["PRUNED"] * 2
    diverging = _sweep(tree, words=["lr=1e20,1e21"], trials=2)
    with pytest.raises(ValueError, match="a study with other settings exists"):
        work(diverging)
    object.__setattr__(diverging, "name", "t")
    work(diverging)
    assert _states(diverging) == ["PRUNED"] * 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("storage", [None, "sqlite:///study.db"])
def test_a_sweep_of_two_workers_survives_kills(tree, storage: str | None) -> None:
    words = [sys.executable, "-m", "cifar_lab", *FLAGS, "--data_dir", str(tree), "--trials", "4"]
    words += ["--space", SPACE[0], "--workers", "2", "--json"]
    words += ["--storage", storage] if storage else []
    words[words.index("--max_steps") + 1] = "200"
    for seconds in (14, 18, 22):
        process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["complete"] == 4
    runs = [run for row in found["trials"] for run in row["runs"]]
    assert len(set(runs)) == 4
    assert len(list(Path("logs/sweep_mlp/mlp").iterdir())) == 4  # each run was resumed


def test_without_optuna_it_is_named(monkeypatch, refused: Callable[..., str]) -> None:
    monkeypatch.setitem(sys.modules, "cifar_lab.experiments.space", None)
    assert "pip install 'cifar_lab[sweep]'" in refused(*FLAGS, "--space", SPACE[0])
