"""Which run ``--resume`` means, what may change, and what is refused."""

import csv
import json
import os
import shlex
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.cli import fit
from cifar_lab.errors import UserError
from cifar_lab.settings import FitSettings
from cifar_lab.training.resume import CHANGEABLE, plan_resume
from cifar_lab.training.run_lock import locked

RUN = Path("logs/mlp/version_0")


@pytest.fixture
def run(tree: Path, capsys: pytest.CaptureFixture[str]):
    """Trains for ten steps; gives a function that runs fit.py: status, output, errors."""
    given = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --max_steps 10"
    given += " --eval_every 5 --progress none --dashboard off --precision auto"
    assert fit(shlex.split(given)) == 0
    capsys.readouterr()

    def run_fit(*words: str) -> tuple[int, str, str]:
        return fit(list(words)), *capsys.readouterr()

    return run_fit


def _steps() -> list[int]:
    with (RUN / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "where",
    [
        ["--resume", "last", "--model", "mlp", "--log_dir", "logs"],
        ["--resume", "--log_dir", "logs"],
        ["--resume", str(RUN)],
        ["--resume", str(RUN / "checkpoints/last.ckpt")],
    ],
)
def test_a_finished_run_goes_on_with_more_steps_in_its_folder(run, where: list[str]) -> None:
    words = [*where, "--max_steps", "15"]
    status, out, _ = run(*words)
    assert status == 0
    assert "goes on from step 10" in out
    assert [path.name for path in Path("logs/mlp").iterdir()] == ["version_0"]
    assert _steps() == [1, 5, 10, 15]
    assert yaml.safe_load((RUN / "config.yaml").read_text())["max_steps"] == 15


def test_a_finished_run_says_so_and_loses_nothing(run) -> None:
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    status, out, _ = run("--resume", str(RUN))
    assert status == 0
    assert out == f"{RUN} is finished, at step 10; a larger --max_steps goes on\n"
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before


def test_a_finished_run_goes_back_to_an_older_checkpoint_that_is_named(run) -> None:
    shutil.copy(RUN / "checkpoints/best.ckpt", RUN / "checkpoints/kept.ckpt")
    step = torch.load(RUN / "checkpoints/kept.ckpt", weights_only=True)["global_step"]
    status, out, _ = run("--resume", str(RUN / "checkpoints/kept.ckpt"))
    assert status == 0
    assert ("is finished, at step 10" in out) == (step == 10)
    assert (f"goes on from step {step}" in out) == (step == 5)
    assert _steps() == [1, 5, 10]


def test_a_table_that_cannot_be_read_stops_it_before_anything_changes(run) -> None:
    for content in (b"step;epoch\n1;0\n", b"step,lr\n1,high\n", b"\xff\n", b"step\n1,2\n"):
        (RUN / "metrics.csv").write_bytes(content)
        before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
        status, _, err = run("--resume", str(RUN), "--max_steps", "12")
        assert status == 2
        assert f"{RUN}/metrics.csv: not a table of numbers" in err
        assert {path: path.read_bytes() for path in before} == before


def test_a_summary_that_says_nothing_of_steps_ends_nothing(run) -> None:
    (RUN / "summary.json").write_text("[]")
    assert "goes on from step 10" in run("--resume", str(RUN), "--max_steps", "12")[1]


def test_what_is_told_of_the_settings_is_as_they_are_now(tree: Path) -> None:
    given = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --hidden_units 8"
    assert fit([*shlex.split(given), "--max_steps", "3", "--progress", "none"]) == 0
    assert fit(["--resume", str(RUN), "--max_steps", "5"]) == 0
    assert yaml.safe_load((RUN / "hparams.yaml").read_text())["max_steps"] == 5
    events = EventAccumulator(str(RUN))
    events.Reload()
    found = events.Tensors("run/configuration/text_summary")
    assert [event.step for event in found] == [0, 3]
    assert b"max_steps: 5" in found[1].tensor_proto.string_val[0]


def test_an_older_checkpoint_takes_the_curves_back(run) -> None:
    shutil.copy(RUN / "checkpoints/best.ckpt", RUN / "checkpoints/kept.ckpt")
    best = torch.load(RUN / "checkpoints/kept.ckpt", weights_only=True)["global_step"]
    assert best == 5  # or this would prove nothing
    with (RUN / "metrics.csv").open("a") as file:
        file.write("4,0.5")  # what a crash leaves of a row, its end missing
    words = ["--resume", str(RUN / "checkpoints/kept.ckpt"), "--max_steps", "12"]
    assert run(*words)[0] == 0
    assert _steps() == [1, 5, 10, 12]


def test_a_damaged_best_checkpoint_is_replaced(run) -> None:
    best = RUN / "checkpoints" / "best.ckpt"
    best.unlink()
    best.write_bytes(b"damaged")
    assert run("--resume", str(RUN), "--max_steps", "12")[0] == 0
    told = json.loads((RUN / "summary.json").read_text())["accuracy"]["test"]
    step = torch.load(best, weights_only=True)["global_step"]
    assert step == told["of_best_checkpoint_step"] in (10, 12)


def test_weights_that_a_later_step_replaced_are_not_taken_for_the_best(run) -> None:
    checkpoints = RUN / "checkpoints"
    shutil.copy(checkpoints / "last.ckpt", checkpoints / "kept.ckpt")
    later = torch.load(checkpoints / "best.ckpt", weights_only=True)
    assert later["global_step"] == 5  # the best so far, and kept.ckpt is of step 10
    (checkpoints / "best.ckpt").unlink()
    torch.save({**later, "global_step": 15}, checkpoints / "best.ckpt")
    assert run("--resume", str(checkpoints / "kept.ckpt"), "--max_steps", "12")[0] == 0
    told = json.loads((RUN / "summary.json").read_text())["accuracy"]["test"]
    best = torch.load(checkpoints / "best.ckpt", weights_only=True)
    assert best["global_step"] == told["of_best_checkpoint_step"] in (10, 12)


def test_a_run_keeps_the_precision_that_auto_meant(run, monkeypatch: pytest.MonkeyPatch) -> None:
    then = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["cifar_lab"]["precision"]
    now = {"32-true": "bf16-mixed", "bf16-mixed": "32-true"}[then]

    def decide(wanted: str, device: str) -> str:
        return now if wanted == "auto" else wanted

    monkeypatch.setattr("cifar_lab.training.trainer.resolve_precision", decide)
    status, out, _ = run("--resume", str(RUN), "--max_steps", "12")
    assert status == 0
    assert f", {then}\n" in out
    assert yaml.safe_load((RUN / "config.yaml").read_text())["precision"] == "auto"


def test_on_another_kind_of_device_the_precision_is_decided_anew(run) -> None:
    path = RUN / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    content["cifar_lab"] |= {"device": "cuda", "precision": "16-mixed"}
    torch.save(content, path)
    status, out, _ = run("--resume", str(RUN), "--max_steps", "12")
    assert status == 0
    assert ", 16-mixed" not in out


def test_settings_that_decide_the_numbers_are_refused_with_the_difference(run) -> None:
    status, _, err = run("--resume", str(RUN), "--lr", "0.1", "--batch_size", "20", "--seed", "3")
    assert status == 2
    assert err == (
        f"fit.py: {RUN} goes on with its own settings; leave these out:\n"
        "  lr: then 0.002, now 0.1\n  seed: then 0, now 3\n"
    )


ANOTHER = {  # than the run of the fixture has
    "model": "cnn",
    "recipe": "deep_mlp",
    "eval_every": "6",
    "batch_size": "21",
    "accumulate_grad_batches": "2",
    "gradient_clip_val": "1.5",
    "seed": "1",
    "deterministic": "true",
    "precision": "64-true",
    "val_size": "6",
    "augment": "flip",
    "crop_padding": "1",
    "log_dir": "elsewhere",
    "log_every": "7",
    "fast_dev_run": "true",
    "overfit_batches": "1",
    "limit_train_batches": "2",
    "limit_val_batches": "2",
}


@pytest.mark.parametrize("name", [*ANOTHER])
def test_a_setting_that_decides_the_numbers_is_refused(run, name: str) -> None:
    with pytest.raises(UserError, match=f"(?i)  {name}: then .*, now {ANOTHER[name]}"):
        plan_resume(["--resume", str(RUN), f"--{name}={ANOTHER[name]}"])


def test_every_setting_is_either_changeable_or_refused() -> None:
    names = {field for field in vars(FitSettings()) if field != "resume"}
    assert {*CHANGEABLE, *ANOTHER} == names
    assert not set(CHANGEABLE) & ANOTHER.keys()


def test_the_newest_run_goes_on_of_all_or_of_a_model() -> None:
    ages = {"mlp/version_0": 30, "mlp/version_1": 20, "cnn/version_0": 10, "cnn/version_10": 5}
    for name, age in ages.items():
        folder = Path("logs", name)
        (folder / "checkpoints").mkdir(parents=True)
        config = f"model: {folder.parent.name}\nmax_steps: 10\n"
        (folder / "config.yaml").write_text(config)
        checkpoint = folder / "checkpoints" / "last.ckpt"
        checkpoint.touch()
        os.utime(checkpoint, (time.time() - age,) * 2)

    def newest(*words: str) -> str:
        found = plan_resume(["--resume", "--log_dir=logs", *words]).checkpoint
        assert found is not None
        return str(found.parent.parent.relative_to("logs"))

    assert newest() == "cnn/version_10"
    assert newest("--model=mlp") == "mlp/version_1"
    os.utime("logs/mlp/version_1/checkpoints/last.ckpt")
    assert newest() == "mlp/version_1"
    assert newest("--model=cnn") == "cnn/version_10"
    Path("logs/cnn/version_10/checkpoints/last.ckpt").unlink()
    assert newest("--model=cnn") == "cnn/version_0"  # the other ended before its first checkpoint
    Path("logs/cnn/version_0/checkpoints/last.ckpt").unlink()
    with pytest.raises(UserError, match=r"cnn/version_10: ended before its first checkpoint"):
        newest("--model=cnn")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "nowhere"], "--resume nowhere: no such run or checkpoint"),
        (["--resume", "logs"], "--resume logs: no checkpoints/last.ckpt in it"),
        (["--resume", "last", "--log_dir", "other"], "no run in other"),
        (["--resume", "last", "--model", "cnn", "--log_dir", "logs"], "no run of cnn in logs"),
        (["--resume", str(RUN), "--max_steps", "7"], "is finished, at step 10"),
        (["--resume", str(RUN), "--model", "cnn"], "model: then mlp, now cnn"),
        (["--resume", str(RUN), "--config", "x"], "--resume and --config"),
        (
            ["--resume", str(RUN), "--max_steps", "12", "--source", "synthetic"],
            "the checkpoint has data ",
        ),
        (["--resume", str(RUN), "--max_epochs", "1"], "2 epochs; --max_epochs 1 leaves nothing"),
        (["--resume", str(RUN), "--max_epochs", "2"], "2 epochs; --max_epochs 2 leaves nothing"),
    ],
)
def test_what_cannot_go_on_is_said_and_changes_nothing(run, words: list[str], message: str) -> None:
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    status, out, err = run(*words)
    assert message in out + err
    assert status == (0 if "finished" in message else 2)
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before


def test_a_run_whose_rates_are_planned_keeps_its_length(run, tree: Path) -> None:
    words = ["--recipe", "fast_mlp", "--data_dir", str(tree), "--log_dir", "logs", "--max_epochs"]
    words += ["2", "--batch_size", "20", "--width", "4", "--components", "8", "--progress", "none"]
    assert run(*words)[0] == 0
    folder = Path("logs/fast_mlp/version_0")
    for length in (["--max_epochs", "3"], ["--max_steps", "99"]):
        status, _, err = run("--resume", str(folder), *length)
        assert status == 2
        assert f"{folder}: its rates are planned over the whole run" in err
    assert (folder / "summary.json").exists()
    assert "is finished" in run("--resume", str(folder), "--max_epochs", "2")[1]


def test_another_number_of_processes_is_refused(run) -> None:
    path = RUN / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    content["cifar_lab"]["processes"] = 2
    torch.save(content, path)
    status, _, err = run("--resume", str(RUN), "--max_steps", "12")
    assert status == 2
    assert "the checkpoint has processes 2; this run has 1" in err


def test_a_damaged_checkpoint_is_refused(run) -> None:
    path = RUN / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    status, _, err = run("--resume", str(RUN), "--max_steps", "12")
    assert status == 2
    assert str(path) in err


def test_a_run_that_is_being_trained_is_refused(run) -> None:
    with locked(RUN):
        status, _, err = run("--resume", str(RUN), "--max_steps", "12")
    assert status == 2
    assert f"fit.py: {RUN}: process " in err
    assert "is training this run" in err
    assert run("--resume", str(RUN), "--max_steps", "12")[0] == 0  # the lock went with its owner
    assert not (RUN / "run.lock").exists()


def test_a_lock_file_that_a_dead_process_left_blocks_nobody(run) -> None:
    (RUN / "run.lock").write_text("99999")
    assert run("--resume", str(RUN), "--max_steps", "12")[0] == 0
