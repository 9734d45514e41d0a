"""Which run ``--resume`` means, what may change, and what is refused."""

import builtins
import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.errors import UserError
from cifar_lab.plan import RUN as SETTINGS
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.resume import resume_plan
from cifar_lab.training.trainer import fit_model

RUN = Path("logs/mlp/version_0")


@pytest.fixture
def resume(run, fit):
    """Trains for ten steps; gives a function that runs cifar-lab fit: status, output, errors."""
    words = "--max_steps 10 --eval_every 5 --progress none --dashboard off --precision auto"
    assert run(*words.split())[0] == 0
    return fit


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
def test_a_finished_run_goes_on_with_more_steps_in_its_folder(resume, where: list[str]) -> None:
    words = [*where, "--max_steps", "15"]
    status, out, _ = resume(*words)
    assert status == 0
    assert "resumed from step 10" in out
    assert [path.name for path in Path("logs/mlp").iterdir()] == ["version_0"]
    assert _steps() == [1, 5, 10, 15]
    assert yaml.safe_load((RUN / "config.yaml").read_text())["max_steps"] == 15


def test_a_finished_run_says_so_and_loses_nothing(resume) -> None:
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    status, out, _ = resume("--resume", str(RUN))
    assert status == 0
    assert out == f"{RUN} is finished, at step 10; a larger --max_steps resumes it\n"
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before


def test_a_table_that_cannot_be_read_stops_it_before_anything_changes(resume) -> None:
    for content in (b"step;epoch\n1;0\n", b"step,lr\n1,high\n", b"\xff\n", b"step\n1,2\n"):
        (RUN / "metrics.csv").write_bytes(content)
        before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
        status, _, err = resume("--resume", str(RUN), "--max_steps", "12")
        assert status == 2
        assert f"{RUN}/metrics.csv: not a table of numbers" in err
        assert {path: path.read_bytes() for path in before} == before


def test_a_summary_that_says_nothing_of_steps_ends_nothing(resume) -> None:
    (RUN / "summary.json").write_text("[]")
    assert "resumed from step 10" in resume("--resume", str(RUN), "--max_steps", "12")[1]


def test_what_is_told_of_the_settings_is_as_they_are_now(run, fit) -> None:
    assert run("--hidden_units", "8", "--max_steps", "3", "--progress", "none")[0] == 0
    assert fit("--resume", str(RUN), "--max_steps", "5")[0] == 0
    assert yaml.safe_load((RUN / "hparams.yaml").read_text())["max_steps"] == 5
    events = EventAccumulator(str(RUN))
    events.Reload()
    found = events.Tensors("run/configuration/text_summary")
    assert [event.step for event in found] == [0, 3]
    assert b"max_steps: 5" in found[1].tensor_proto.string_val[0]


def test_an_older_checkpoint_that_is_named_takes_the_run_and_its_curves_back(resume) -> None:
    shutil.copy(RUN / "checkpoints/best.ckpt", RUN / "checkpoints/kept.ckpt")
    best = torch.load(RUN / "checkpoints/kept.ckpt", weights_only=True)["global_step"]
    assert best == 5  # or this would prove nothing
    with (RUN / "metrics.csv").open("a") as file:
        file.write("4,0.5")  # what a crash leaves of a row, its end missing
    for more, steps in (([], [1, 5, 10]), (["--max_steps", "12"], [1, 5, 10, 12])):
        status, out, _ = resume("--resume", str(RUN / "checkpoints/kept.ckpt"), *more)
        assert status == 0
        assert "resumed from step 5" in out
        assert _steps() == steps


def test_a_damaged_best_checkpoint_is_replaced(resume) -> None:
    best = RUN / "checkpoints" / "best.ckpt"
    best.unlink()
    best.write_bytes(b"damaged")
    assert resume("--resume", str(RUN), "--max_steps", "12")[0] == 0
    told = json.loads((RUN / "summary.json").read_text())["accuracy"]["test"]
    step = torch.load(best, weights_only=True)["global_step"]
    assert step == told["of_best_checkpoint_step"] in (10, 12)


def test_weights_that_a_later_step_replaced_are_not_taken_for_the_best(resume) -> None:
    checkpoints = RUN / "checkpoints"
    shutil.copy(checkpoints / "last.ckpt", checkpoints / "kept.ckpt")
    later = torch.load(checkpoints / "best.ckpt", weights_only=True)
    assert later["global_step"] == 5  # the best so far, and kept.ckpt is of step 10
    (checkpoints / "best.ckpt").unlink()
    torch.save({**later, "global_step": 15}, checkpoints / "best.ckpt")
    assert resume("--resume", str(checkpoints / "kept.ckpt"), "--max_steps", "12")[0] == 0
    told = json.loads((RUN / "summary.json").read_text())["accuracy"]["test"]
    best = torch.load(checkpoints / "best.ckpt", weights_only=True)
    assert best["global_step"] == told["of_best_checkpoint_step"] in (10, 12)


@pytest.mark.parametrize("name", ["last.ckpt", "kept.ckpt"])
def test_each_file_is_read_once_before_lightning_reads_the_checkpoint(
    resume, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = RUN / "checkpoints" / name
    if name == "kept.ckpt":
        shutil.copy(RUN / "checkpoints/last.ckpt", path)
    opened, ours, lightnings = [], [], []
    opening, loading = builtins.open, torch.load

    def note_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        opened.append(Path(str(file)).name if mode in ("r", "rb") else "")
        return opening(file, mode, *args, **kwargs)

    def note_load(file: Any, *args: Any, **kwargs: Any) -> Any:  # Lightning gives an open file
        if isinstance(file, Path):
            ours.append(file.name)
        else:
            lightnings.append(Path(file.name).name)
        return loading(file, *args, **kwargs)

    def note_training(*given: Any) -> None:
        assert {opened.count(file) for file in ("config.yaml", "metrics.csv", "summary.json")} == {
            1
        }
        assert ours == [name]
        fit_model(*given)

    monkeypatch.setattr("builtins.open", note_open)
    monkeypatch.setattr("torch.load", note_load)
    monkeypatch.setattr("cifar_lab.training.job.fit_model", note_training)
    assert resume("--resume", str(path), "--max_steps", "12")[0] == 0
    assert ours in ([name], [name, "best.ckpt"])  # is that of the best point still there?
    assert lightnings == ["last.ckpt", "best.ckpt"]  # to train and to test


def test_a_run_keeps_the_precision_that_auto_meant(resume, monkeypatch: pytest.MonkeyPatch) -> None:
    then = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["cifar_lab"]["precision"]
    now = {"32-true": "bf16-mixed", "bf16-mixed": "32-true"}[then]

    def decide(wanted: str, device: str) -> str:
        return now if wanted == "auto" else wanted

    monkeypatch.setattr("cifar_lab.training.trainer.resolve_precision", decide)
    status, out, _ = resume("--resume", str(RUN), "--max_steps", "12")
    assert status == 0
    assert f", {then}\n" in out
    assert yaml.safe_load((RUN / "config.yaml").read_text())["precision"] == "auto"


def test_on_another_kind_of_device_the_precision_is_decided_anew(resume) -> None:
    path = RUN / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    content["cifar_lab"] |= {"device": "cuda", "precision": "16-mixed"}
    torch.save(content, path)
    status, out, _ = resume("--resume", str(RUN), "--max_steps", "12")
    assert status == 0
    assert ", 16-mixed" not in out


def test_settings_that_decide_the_numbers_are_refused_with_the_difference(resume) -> None:
    status, _, err = resume(
        "--resume", str(RUN), "--lr", "0.1", "--batch_size", "20", "--seed", "3"
    )
    assert status == 2
    assert err == (
        f"cifar-lab fit: {RUN} is resumed with its own settings; leave out:\n"
        "  seed: then 0, now 3\n  lr: then 0.002, now 0.1\n"
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
def test_a_setting_that_decides_the_numbers_is_refused(resume, name: str) -> None:
    value = ANOTHER[name]
    told = f"(?i)  {name}: then .*, now {value}|--{name} {value}: cannot replace mlp"
    with pytest.raises(UserError, match=told):
        resume_plan(str(RUN), {name: value})


def test_every_setting_is_either_changeable_or_refused() -> None:
    resumable = {name for name, entry in SETTINGS.items() if entry.resumable}
    assert resumable | ANOTHER.keys() == SETTINGS.keys()
    assert not resumable & ANOTHER.keys()


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

    def newest(**changes: str) -> str:
        _, point = resume_plan("last", {"log_dir": "logs", **changes})
        return str(point.folder.path.relative_to("logs"))

    assert newest() == "cnn/version_10"
    assert newest(model="mlp") == "mlp/version_1"
    os.utime("logs/mlp/version_1/checkpoints/last.ckpt")
    assert newest() == "mlp/version_1"
    assert newest(model="cnn") == "cnn/version_10"
    Path("logs/cnn/version_10/checkpoints/last.ckpt").unlink()
    assert newest(model="cnn") == "cnn/version_0"  # the other ended before its first checkpoint
    Path("logs/cnn/version_0/checkpoints/last.ckpt").unlink()
    with pytest.raises(UserError, match=r"cnn/version_10: ended before its first checkpoint"):
        newest(model="cnn")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "nowhere"], "--resume nowhere: no such run or checkpoint"),
        (["--resume", "logs"], "--resume logs: no checkpoints/last.ckpt in it"),
        (["--resume", "last", "--log_dir", "other"], "no run in other"),
        (["--resume", "last", "--model", "cnn", "--log_dir", "logs"], "no run of cnn in logs"),
        (["--resume", str(RUN), "--max_steps", "7"], "is finished, at step 10"),
        (["--resume", str(RUN), "--model", "cnn"], "--model cnn: cannot replace mlp"),
        (["--resume", str(RUN), "--config", "x"], "--resume and --config"),
        (
            ["--resume", str(RUN), "--max_steps", "12", "--source", "synthetic"],
            "the checkpoint has data ",
        ),
        (["--resume", str(RUN), "--max_epochs", "1"], "2 epochs; --max_epochs 1 leaves nothing"),
        (["--resume", str(RUN), "--max_epochs", "2"], "2 epochs; --max_epochs 2 leaves nothing"),
    ],
)
def test_what_cannot_go_on_is_said_and_changes_nothing(
    resume, words: list[str], message: str
) -> None:
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    status, out, err = resume(*words)
    assert message in out + err
    assert status == (0 if "finished" in message else 2)
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before


def test_a_run_whose_rates_are_planned_keeps_its_length(resume, tree: Path) -> None:
    words = ["--recipe", "fast_mlp", "--data_dir", str(tree), "--log_dir", "logs", "--max_epochs"]
    words += ["2", "--batch_size", "20", "--width", "4", "--components", "8", "--progress", "none"]
    assert resume(*words)[0] == 0
    folder = Path("logs/fast_mlp/version_0")
    for length in (["--max_epochs", "3"], ["--max_steps", "99"]):
        status, _, err = resume("--resume", str(folder), *length)
        assert status == 2
        assert f"{folder}: its learning-rate schedule covers the whole run" in err
    assert (folder / "summary.json").exists()
    assert "is finished" in resume("--resume", str(folder), "--max_epochs", "2")[1]


def test_another_number_of_processes_is_refused(resume) -> None:
    path = RUN / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    content["cifar_lab"]["processes"] = 2
    torch.save(content, path)
    status, _, err = resume("--resume", str(RUN), "--max_steps", "12")
    assert status == 2
    assert "the checkpoint has processes 2; this run has 1" in err


def test_a_damaged_checkpoint_is_refused(resume) -> None:
    path = RUN / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    status, _, err = resume("--resume", str(RUN), "--max_steps", "12")
    assert status == 2
    assert str(path) in err


def test_a_run_that_is_being_trained_is_refused(resume) -> None:
    with RunFolder.at(RUN).locked():
        status, _, err = resume("--resume", str(RUN), "--max_steps", "12")
    assert status == 2
    assert err == f"cifar-lab fit: {RUN}: another process is training this run\n"
    assert resume("--resume", str(RUN), "--max_steps", "12")[0] == 0  # the lock went with its owner
    assert not (RUN / "run.lock").exists()
