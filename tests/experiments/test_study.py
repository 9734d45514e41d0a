"""A study: a run for each variant and seed, found, resumed or trained; nothing trained twice."""

import json
import re
import signal
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cifar_lab.errors import UserError
from cifar_lab.experiments.study import Study
from cifar_lab.models import MLP
from cifar_lab.plan import Plan
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.run import Run

PLAN = Plan.of("mlp", log_dir="logs")
SEEDS = ("fit", "--model", "mlp", "--log_dir", "logs", "--batch_size", "20", "--eval_every", "3")
SEEDS += ("--progress", "none", "--dashboard", "off", "--max_steps", "6")


@pytest.fixture
def run(tree: Path, call: Callable[..., tuple[int, str, str]]):
    """Run ``fit --seeds`` on the tree; return status, output and errors."""
    return lambda *words: call(*SEEDS, "--data_dir", str(tree), *words)


def _find(plan: Plan = PLAN, images: str | None = None, file: str = "") -> Run | None:
    return Study({"": plan}, [0], "", file=file).find(plan, images)


@pytest.mark.parametrize(
    ("settings", "matches"),
    [
        ({"data_dir": "x", "progress": "none", "log_dir": "y"}, True),
        ({"lr": 0.1}, False),
        ({"model": "numpy_mlp"}, False),
        ({"limit_val_batches": 1.0}, False),  # one batch is not all of them
    ],
)
def test_a_run_is_found_whose_decisive_settings_are_the_same(finish, settings, matches) -> None:
    finish(**{"limit_val_batches": 1, **settings})
    assert (_find(PLAN.replace(limit_val_batches=1)) is not None) == matches


def test_the_newest_of_equal_runs_is_found_also_without_newer_settings(finish) -> None:
    finish("mlp/version_9")
    new = finish("mlp/version_10")
    finish("mlp/version_11_old")  # not the name of a run
    config = yaml.safe_load((new / "config.yaml").read_text())
    del config["log_every"]  # as if written before that setting was there
    (new / "config.yaml").write_text(yaml.safe_dump(config))
    assert _find().path == new


def test_a_run_is_found_by_its_images_and_by_a_file_that_it_must_have(finish) -> None:
    real = finish(images="real")
    finish("mlp-synthetic/version_3", images="synthetic")
    assert _find(images="real").path == real
    assert _find(images="others") is None
    assert _find(file="probe.json") is None
    (real / "probe.json").touch()
    assert _find(file="probe.json").path == real


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "{", "version_0/summary.json: not a JSON file"),
        ("summary.json", '{"model": 1}', "version_0/summary.json: damaged (no model"),
        ("config.yaml", "{", "version_0/config.yaml: not a YAML file"),
    ],
)
def test_a_damaged_finished_run_is_named(finish, name: str, content: str, message: str) -> None:
    folder = finish()
    (folder / name).write_text(content)
    told = f"{re.escape(message)}.*; remove {folder} to train it again$"
    with pytest.raises(UserError, match=told):
        _find()


def test_without_training_only_what_is_there_is_taken_if_its_images_are_the_same(finish) -> None:
    first = finish(seed=1)
    study = Study({"": PLAN}, [0, 1, 2], "")
    assert [run.path for run in study.runs(train=False)[""]] == [first]
    finish("mlp/version_1", seed=2, images="others")
    with pytest.raises(UserError, match=r"different images \(fingerprints a, others\)"):
        study.runs(train=False)


def test_synthetic_images_do_not_take_the_place_of_those_of_a_run(finish) -> None:
    finish()
    with pytest.raises(UserError, match="which are not found now; give their folder as --data_dir"):
        Study({"": PLAN.replace(data_dir=None)}, [0], "").runs()


def test_each_seed_is_a_run_as_seed_makes_it_and_the_mean_is_shown(run, summaries) -> None:
    status, out, err = run("--seeds", "0..2")
    assert status == 0, err
    found = summaries()
    assert [summary["seed"] for summary in found] == [0, 1, 2]
    assert found[0]["command"].startswith("cifar-lab fit --model mlp ")
    tested = [100 * s["accuracy"]["test"]["of_best_checkpoint"] for s in found]
    mean, deviation = statistics.fmean(tested), statistics.stdev(tested)
    lines = out[out.index("seeds 0, 1, 2, mean ± standard deviation") :].splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith(f"  {mean:.2f} ± {deviation:.2f} %")
    assert "test accuracy, of the best checkpoint" in lines[-1]
    assert run("--seed", "1")[0] == 0
    assert summaries()[3]["accuracy"] == found[1]["accuracy"]


def test_finished_seeds_are_taken_and_others_resumed(run, summaries, monkeypatch) -> None:
    step = MLP.training_step

    def interrupt(self: MLP, *given) -> object:
        if self.global_step == 2 and self.trainer.datamodule.seed == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, *given)

    monkeypatch.setattr(MLP, "training_step", interrupt)
    status, _, err = run("--seeds", "0,1")
    assert status == 130
    assert "Stopped at step 3. Interrupted; with --seeds, the same command continues." in err
    assert len(summaries()) == 1
    monkeypatch.setattr(MLP, "training_step", step)
    status, out, err = run("--seeds", "0,1")
    assert status == 0, err
    assert "--- seed 0 is already trained: logs/mlp/version_0" in out
    assert "resumed from step 3" in out
    assert [summary["steps"] for summary in summaries()] == [6, 6]
    assert len(list(Path("logs/mlp").iterdir())) == 2
    # The same numbers as of a run that nothing interrupted.
    assert run("--seed", "1", "--log_dir", "other")[0] == 0
    whole = json.loads(Path("other/mlp/version_0/summary.json").read_text())
    assert whole["accuracy"] == summaries()[1]["accuracy"]


def test_a_run_in_use_or_of_other_images_or_settings_is_left(run, summaries, write_tree) -> None:
    assert run("--seeds", "0")[0] == 0
    folder = RunFolder.at(Path("logs/mlp/version_0"))
    folder.summary.unlink()
    with folder.locked():
        status, out, err = run("--seeds", "0")
    assert status == 0, err
    assert "resumed" not in out
    Path("logs/mlp/version_1/summary.json").unlink()
    other = str(write_tree("other", train=41))
    for words in (("--data_dir", other), ("--lr", "0.01")):
        assert "resumed" not in run("--seeds", "0", *words)[1]
    assert len(list(Path("logs/mlp").iterdir())) == 4
    assert [summary["steps"] for summary in summaries()] == [6, 6]


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.yaml", "{"), ("checkpoints/last.ckpt", "{"), ("checkpoints/last.ckpt", None)],
)
def test_a_damaged_unfinished_run_is_named_and_trained_anew(run, name, content) -> None:
    assert run("--seeds", "0")[0] == 0
    folder = Path("logs/mlp/version_0")
    (folder / "summary.json").unlink()
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    status, _, err = run("--seeds", "0")
    assert status == 0
    assert (f"{folder} is not resumed: " in err) == (content is not None)
    assert Path("logs/mlp/version_1/summary.json").exists()


def test_a_home_in_the_log_folder_is_found(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path("home").resolve()))
    assert run("--seeds", "0", "--log_dir=~/runs")[0] == 0
    assert "is already trained" in run("--seeds", "0", "--log_dir=~/runs")[1]
    assert Path("home/runs/mlp/version_0/summary.json").exists()
