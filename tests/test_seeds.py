"""Several seeds in one command: a run each, a mean, nothing trained twice."""

import json
import shlex
import signal
import statistics
from pathlib import Path

import pytest

from cifar_lab.cli import fit
from cifar_lab.models import MLP
from cifar_lab.report import runs
from cifar_lab.training.run_lock import locked


@pytest.fixture
def run(tree: Path, capsys: pytest.CaptureFixture[str]):
    """Runs fit.py on the tree; gives status, output and errors."""
    given = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --eval_every 3"
    given += " --progress none --dashboard off"

    def run_fit(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = fit([*shlex.split(given), "--max_steps", "6", *words])
        return status, *capsys.readouterr()

    return run_fit


def _summaries() -> list[dict]:
    paths = sorted(Path("logs/mlp").glob("version_*/summary.json"))
    return [json.loads(path.read_text()) for path in paths]


def test_each_seed_is_a_run_as_seed_makes_it_and_the_mean_is_shown(run) -> None:
    status, out, err = run("--seeds", "0..2")
    assert status == 0, err
    found = _summaries()
    assert [summary["seed"] for summary in found] == [0, 1, 2]
    tested = [100 * s["accuracy"]["test"]["of_best_checkpoint"] for s in found]
    mean, deviation = statistics.fmean(tested), statistics.stdev(tested)
    lines = out[out.index("seeds 0, 1, 2, mean ± standard deviation") :].splitlines()
    assert len(lines) == 4
    assert lines[-1].split()[-4:] == [f"{mean:.2f}", "±", f"{deviation:.2f}", "%"]
    assert "test accuracy, of the best checkpoint" in lines[-1]

    assert run("--seed", "1", "--max_steps", "6")[0] == 0
    assert _summaries()[3]["accuracy"] == found[1]["accuracy"]


def test_finished_seeds_are_taken_and_an_interrupted_one_goes_on(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = MLP.on_train_batch_end

    def interrupt(self: MLP, *given) -> None:
        ended(self, *given)
        if self.global_step == 2 and self.trainer.datamodule.seed == 1:  # behind the callbacks
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(MLP, "on_train_batch_end", interrupt)
    status, _, err = run("--seeds", "0,1")
    assert status == 130
    assert "Stopped at step 3" in err
    assert len(_summaries()) == 1
    monkeypatch.setattr(MLP, "on_train_batch_end", ended)
    trained = []
    fitting = runs.run_fit
    monkeypatch.setattr(runs, "run_fit", lambda plan: trained.append(plan) or fitting(plan))
    status, out, err = run("--seeds", "0,1")
    assert status == 0, err
    assert [plan.settings.seed for plan in trained] == [1]
    assert "goes on from step 3" in out
    assert [summary["steps"] for summary in _summaries()] == [6, 6]
    assert len(list(Path("logs/mlp").iterdir())) == 2

    # The same numbers as of a run that nothing interrupted.
    assert run("--seed", "1", "--log_dir", "other")[0] == 0
    whole = json.loads(Path("other/mlp/version_0/summary.json").read_text())
    assert whole["accuracy"] == _summaries()[1]["accuracy"]


def test_a_run_that_another_process_trains_is_left_alone(run) -> None:
    assert run("--seeds", "0")[0] == 0
    folder = Path("logs/mlp/version_0")
    (folder / "summary.json").unlink()
    with locked(folder):
        status, out, err = run("--seeds", "0")
    assert status == 0, err
    assert "goes on" not in out
    assert Path("logs/mlp/version_1/summary.json").exists()


def test_an_interrupted_run_on_other_images_or_settings_does_not_go_on(run, write_tree) -> None:
    run("--seeds", "0")
    unfinished = Path("logs/mlp/version_0/summary.json")
    unfinished.unlink()
    for words in (["--data_dir", str(write_tree("other", train=41))], ["--lr", "0.01"]):
        assert run("--seeds", "0", *words)[0] == 0
    assert not unfinished.exists()
    assert len(list(Path("logs/mlp").iterdir())) == 3


def test_a_home_in_the_log_folder_is_found(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path("home").resolve()))
    assert run("--seeds", "0", "--log_dir=~/runs")[0] == 0
    assert Path("home/runs/mlp/version_0/summary.json").exists()


@pytest.mark.parametrize("damaged", ["config.yaml", "checkpoints/last.ckpt"])
def test_a_damaged_unfinished_run_is_told_and_trained_anew(run, damaged: str) -> None:
    assert run("--seeds", "0")[0] == 0
    folder = Path("logs/mlp/version_0")
    (folder / "summary.json").unlink()
    (folder / damaged).write_text("{")
    status, _, err = run("--seeds", "0")
    assert status == 0
    assert f"{folder} does not go on: " in err
    assert Path("logs/mlp/version_1/summary.json").exists()


def test_one_batch_is_not_all_of_them(run) -> None:
    one = ("--seeds", "0", "--limit_train_batches", "1", "--max_steps", "2")
    assert run(*one)[0] == 0
    assert run(*one[:3], "1.0", *one[4:])[0] == 0
    assert len(_summaries()) == 2
    status, _, err = run(*one[2:3], "1", "--resume", "logs/mlp/version_1")
    assert status == 2
    assert "limit_train_batches: then 1.0, now 1" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "a"], "--seeds a: expected integers separated by commas, or a range 0..4"),
        (["--seeds"], "--seeds: expected a value behind it"),
        (["--seeds", "0,4..3"], "--seeds 0,4..3: expected integers separated by commas"),
        (["--seeds", "0..9999999999"], "at most 10,000"),
        (["--seeds", "0..99999999999999999999"], "at most 10,000"),
        (["--seeds", "-1"], "--seed -1: expected an integer from 0"),
        (["--seeds", "0,1", "--seed", "3"], "--seed 3 and --seeds: give one of them"),
        (["--seeds", "0,1", "--resume"], "--resume and --seeds cannot be combined"),
        (["--seeds", "0,1", "--fast_dev_run"], "--fast_dev_run and --seeds: several seeds are"),
        (["--seeds", "0,1", "--devices", "2", "--accelerator", "cpu"], "by one process"),
        (["--seed_s", "0"], "did you mean --seed"),
    ],
)
def test_wrong_input_is_refused(run, words: list[str], message: str) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert message in err
    assert not Path("logs").exists()


def test_a_configuration_is_shown_without_training(run) -> None:
    status, out, _ = run("--seeds", "7,8", "--print_config")
    assert status == 0
    assert "seed: 7" in out
    assert not Path("logs").exists()


@pytest.mark.parametrize("name", ["seeds", "resume"])
def test_what_is_no_setting_is_refused_in_a_configuration(run, name: str) -> None:
    Path("given.yaml").write_text(f"{name}: 0..4\n")
    status, _, err = run("--config", "given.yaml")
    assert status == 2
    assert err == f"fit.py: --config given.yaml: {name}: give it as a flag\n"
