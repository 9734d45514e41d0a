"""Whole runs through the command line, on small images."""

import csv
import errno
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.cli.main import program
from cifar_lab.data.image_set import ImageSet
from cifar_lab.models import MLP
from cifar_lab.plan import Plan

RUN = Path("logs/mlp/version_0")
SCALARS = {"epoch", "loss/train", "acc/train", "lr", "speed/images_per_second"}


def _summary(folder: Path = RUN) -> dict:
    return json.loads((folder / "summary.json").read_text("utf-8"))


def _table(folder: Path = RUN) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_leaves_the_folder_that_the_design_names(run) -> None:
    status, out, _ = run()
    assert status == 0
    names = {path.name for path in RUN.iterdir()}
    assert {"config.yaml", "metrics.csv", "summary.json", "checkpoints"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert {path.name for path in (RUN / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert out.splitlines()[-1] == "tensorboard --logdir logs"
    assert f"run folder: {RUN}" in out


def test_the_times_of_a_run_are_those_that_passed(run) -> None:
    start = time.perf_counter()
    _, out, _ = run("--dashboard", "off")
    passed = time.perf_counter() - start
    seconds = _summary()["seconds"]
    assert 0 < seconds["train"] < seconds["fit"] < seconds["total"] < passed
    assert "tensorboard" not in out  # it has no files


def test_scalars_have_the_tags_and_the_steps_of_the_design(run) -> None:
    run("--log_every", "10")
    steps: dict[str, list[int]] = {}
    for part in (".", "val", "test"):  # evaluations are runs of their own
        events = EventAccumulator(str(RUN / part)).Reload()
        found = events.Tags()["scalars"]
        assert all(tag.endswith(part) for tag in found if part != ".")
        steps |= {tag: [event.step for event in events.Scalars(tag)] for tag in found}
    evaluated = {f"{name}/{split}" for name in ("loss", "acc") for split in ("val", "test")}
    own = {"grad_norm", "weight_norm", "hp", "loss_after_start"}  # see tests/dashboards
    assert {tag for tag in steps if tag.split("/")[0] not in own} == SCALARS | evaluated
    assert steps["loss/train"] == [1, 10, 20, 25]  # the first, every tenth and the last
    assert steps["acc/val"] == [10, 20, 25]
    best_step = _summary()["accuracy"]["test"]["of_best_checkpoint_step"]
    assert steps["acc/test"] == [best_step]  # the test set is touched once
    assert [int(row["step"]) for row in _table()] == [1, 10, 20, 25]


def test_the_summary_says_what_came_out(run) -> None:
    run()
    summary, last = _summary(), _table()[-1]
    assert summary["accuracy"]["val"]["last"] == float(last["acc/val"])
    best = max(float(row["acc/val"]) for row in _table() if row["acc/val"])
    assert summary["accuracy"]["val"]["best"] == best
    assert (summary["steps"], summary["seed"], summary["model"]) == (25, 0, "mlp")
    assert summary["data"]["source"] == "folder"
    assert summary["data"]["images"] == {"train": 108, "val": 12, "test": 45}
    assert summary["images_per_second"] > 0
    assert set(summary["versions"]) == {"cifar_lab", "torch", "pytorch_lightning", "python"}


def test_a_best_point_before_the_last_is_the_one_tested_and_both_are_told(run) -> None:
    run("--lr", "0.004", "--eval_every", "1", "--limit_val_batches", "1")
    accuracy, table = _summary()["accuracy"], _table()
    curve = {int(row["step"]): float(row["acc/val"]) for row in table if row["acc/val"]}
    val, best_step = accuracy["val"], max(curve, key=lambda step: curve[step])
    assert best_step < 25  # or this would prove nothing
    assert _summary()["steps"] == 25
    assert (val["best"], val["best_step"]) == (curve[best_step], best_step)
    assert (val["last"], val["last_step"]) == (curve[25], 25)
    assert accuracy["test"]["of_best_checkpoint_step"] == best_step
    tested = {int(row["step"]): float(row["acc/test"]) for row in table if row["acc/test"]}
    assert tested == {best_step: accuracy["test"]["of_best_checkpoint"]}
    best = torch.load(RUN / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == best_step


def test_the_protocol_of_the_report_selects_nothing(run) -> None:
    _, out, _ = run("--val_size", "0")
    assert [path.name for path in (RUN / "checkpoints").iterdir()] == ["last.ckpt"]
    accuracy = _summary()["accuracy"]
    curve = {int(row["step"]): float(row["acc/test"]) for row in _table() if row["acc/test"]}
    assert list(curve) == [10, 20, 25]
    assert set(accuracy) == {"test"}
    assert (accuracy["test"]["best"], accuracy["test"]["last"]) == (max(curve.values()), curve[25])
    assert "test accuracy, best point" in out
    assert "test accuracy, last point" in out
    assert "report, best point" not in out  # which has other settings, and other images


@pytest.mark.parametrize("is_cifar10", [True, False])
def test_the_reports_figure_is_shown_for_its_images_alone(is_cifar10, run, monkeypatch) -> None:
    monkeypatch.setattr(Plan, "report_accuracy", 0.423)
    monkeypatch.setattr(ImageSet, "is_cifar10", is_cifar10)
    _, out, _ = run("--max_steps", "2")
    assert ("42.30 %   recipe mlp" in out) == is_cifar10
    assert _summary()["report_accuracy"] == (0.423 if is_cifar10 else None)


def test_the_configuration_repeats_the_run_bit_for_bit_but_with_another_seed(run, fit) -> None:
    run("--seed", "4", "--augment", "flip")
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["seed"] == 4
    assert fit("--config", str(RUN / "config.yaml"))[0] == 0
    assert fit("--config", str(RUN / "config.yaml"), "--seed", "5")[0] == 0
    first, second, other = (_weights(RUN.with_name(f"version_{number}")) for number in range(3))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["network.1.weight"], other["network.1.weight"])


def test_max_epochs_overrides_the_steps_of_the_recipe(run) -> None:
    run("--max_epochs", "2", "--max_steps", "null")
    assert _summary()["steps"] == 2 * (108 // 20)


def test_output_that_is_no_terminal_gets_a_line_an_evaluation(run) -> None:
    _, out, err = run()
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["10", "20", "25"]
    assert all("images/s" in line and " left" in line for line in lines)
    assert "\r" not in out
    assert "Warning" not in err


def test_fast_dev_run_writes_nothing(run) -> None:
    status, out, _ = run("--fast_dev_run")
    assert status == 0
    assert "nothing was written" in out
    assert not Path("logs").exists()


def test_fast_dev_run_finds_weights_that_are_not_finite(run) -> None:
    status, out, err = run("--fast_dev_run", "--lr", "1e38")
    assert status == 1
    assert "fast_dev_run: step 1: weights are not finite" in err
    assert "passed" not in out


def test_synthetic_runs_are_named_for_it(run) -> None:
    status, out, err = run("--data_dir", "null", "--max_steps", "2")
    assert status == 0
    assert "WARNING: training on SYNTHETIC images" in err
    assert "SYNTHETIC" in out
    folder = Path("logs/mlp-synthetic/version_0")
    assert _summary(folder)["data"]["source"] == "synthetic"
    assert "SYNTHETIC" in (folder / "hparams.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch_size", "5000"], "batch_size 5,000: larger than the 108 training images"),
        (["--log_dir", "file"], "log_dir file: cannot be written"),
        (["--data_dir", "missing", "--source", "cifar10"], "data_dir missing: no such folder"),
        (["--strategy", "dpp"], "--strategy dpp: unknown; did you mean ddp?"),
        (["--strategy", "ddp_spawn"], "--strategy ddp_spawn: unknown"),
        (["--strategy", "xla"], "--strategy xla: unknown"),
        (["--log_dir", "~nobody_of_this_name/x"], "log_dir ~nobody_of_this_name/x: "),
        (["--model", "batchnorm_mlp", "--batch_size", "1"], "batch_size 1: batch normalization"),
        (["--hidden_units", "1000000000000000"], "mlp: cannot be built ("),
        (["--hidden_units", "1000000000000"], "mlp: cannot be built ("),
        (["--model", "numpy_mlp", "--hidden_units", "1000000000000000"], "mlp: cannot be built ("),
        (["--devices", "1,", "--accelerator", "cpu"], "--devices 1,: expected a number of"),
        (["--init", "zeros"], "init 'zeros': expected "),
        (["--model", "numpy_mlp", "--precision", "bf16-mixed"], "numpy_mlp computes in NumPy"),
        (["--augment", "blur"], "augment 'blur'"),
        (["--limit_val_batches", "0.3"], "limit_val_batches"),  # no batch: Lightning refuses
        (["--gradient_clip_val", "-1"], "expected a number of at least 0"),
        (["--gradient_clip_val", "nan"], "expected a number of at least 0"),
        (["--val_size", "120"], "val_size 120: expected 0 to 119"),
    ],
)
def test_wrong_input_gets_a_line_status_2_and_leaves_nothing(
    run, words: list[str], message: str
) -> None:
    Path("file").touch()
    status, _, err = run(*words)
    told = [line for line in err.splitlines() if not line.startswith("decoding")]
    assert status == 2
    assert message in told[0]
    assert len(told) <= 2
    assert "Traceback" not in err
    assert not [*Path().glob("logs/*/*")]


def test_that_an_evaluation_is_of_a_part_is_said(run) -> None:
    told = run("--max_steps", "2", "--val_size", "0", "--limit_val_batches", "1")[1]
    assert "(--limit_val_batches 1: evaluations used only some of the images)" in told
    assert "a part of" not in run("--max_steps", "2")[1]


def test_a_profiler_that_was_asked_for_tells(run) -> None:
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("pytorch_lightning.profilers.profiler")
    logger.addHandler(handler)
    try:
        assert run("--profiler", "simple", "--max_steps", "2")[0] == 0
    finally:
        logger.removeHandler(handler)
    assert any("run_training_batch" in line for line in told)


def _allocation_error() -> RuntimeError:
    """What torch raises; in a process of its own, whose malloc is another one afterwards."""
    words = [sys.executable, "-c", "import torch; torch.empty(2**60)"]
    told = subprocess.run(words, capture_output=True, text=True).stderr
    return RuntimeError(told.strip().splitlines()[-1].partition(": ")[2])


@pytest.mark.parametrize(
    "error",
    [_allocation_error, lambda: torch.OutOfMemoryError("CUDA out of memory."), MemoryError],
)
def test_out_of_memory_is_said_with_what_helps(run, monkeypatch, error) -> None:
    step, raised = MLP.training_step, error()

    def hungry(model: MLP, batch: Any, batch_idx: int) -> Any:
        if model.global_step == 3:
            raise raised
        return step(model, batch, batch_idx)

    monkeypatch.setattr(MLP, "training_step", hungry)
    status, _, err = run()
    assert status == 1
    assert "cifar-lab fit: out of memory (" in err
    assert "--batch_size" in err
    assert f"Last good checkpoint: {RUN}/checkpoints/last.ckpt, step 0." in err


@pytest.mark.parametrize(
    ("words", "batches"),
    [
        ([], 12),
        (["--overfit_batches", "2"], 2),
        (["--limit_train_batches", "0.5"], 12),
        (["--limit_train_batches", "3"], 12),
        (["--accumulate_grad_batches", "2"], 12),
    ],
)
def test_evaluations_are_at_their_steps_whatever_a_trial_trains_on(
    run, monkeypatch, words: list[str], batches: int
) -> None:
    seen, step = {}, MLP.training_step

    def noting(model: MLP, batch: Any, batch_idx: int) -> Any:
        seen[batch[0].numpy().tobytes()] = set(batch[1].tolist())
        return step(model, batch, batch_idx)

    monkeypatch.setattr(MLP, "training_step", noting)
    given = ["--max_steps", "6", "--eval_every", "2", "--batch_size", "18", "--dashboard", "off"]
    assert run(*given, *words)[0] == 0
    assert [int(row["step"]) for row in _table() if row["acc/val"]] == [2, 4, 6]
    accumulated = 2 if "--accumulate_grad_batches" in words else 1
    assert len(seen) == min(batches, 6 * accumulated)
    assert list(seen.values()) == [{0, 1, 2}] * len(seen)  # the tree lists images class by class


@pytest.mark.parametrize(
    ("printing", "step"),
    [
        ("cifar_lab.training.job.print_end", 25),
        ("cifar_lab.dashboards.progress.scalars", 10),  # the point is saved before it is shown
    ],
)
def test_an_output_that_nobody_reads_ends_the_run_with_the_way_to_resume(
    run, monkeypatch, printing: str, step: int
) -> None:
    def unread(*given: object) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(printing, unread)
    monkeypatch.setattr("cifar_lab.cli.fit.discard", lambda stream: None)
    status, _, err = run("--progress", "line")
    assert status == 141
    assert "the output pipe was closed" in err
    assert f"Last good checkpoint: {RUN}/checkpoints/last.ckpt, step {step}." in err
    assert f"--resume {RUN}" in err


@pytest.mark.slow
def test_ctrl_c_loses_nothing_where_it_ends_the_reader_too(tree: Path) -> None:
    """As in ``fit.py 2>&1 | tee log``: both get the signal, and the reader is gone at once."""
    script = Path(__file__).parents[2] / "scripts" / "fit.py"
    words = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --max_steps 100000"
    command = [sys.executable, str(script), *shlex.split(words), "--progress", "none"]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **pipe) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        while not (RUN / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    step = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 100_000


def test_the_way_to_resume_is_told_where_ctrl_c_leaves_it_readable(run, fit, monkeypatch) -> None:
    assert run("--max_steps", "5")[0] == 0

    def interrupted(*given: object, **named: object) -> None:
        raise KeyboardInterrupt  # before training begins

    monkeypatch.setattr("pytorch_lightning.Trainer.fit", interrupted)
    status, out, err = fit("--resume", str(RUN), "--max_steps", "9")
    assert status == 130
    assert f"Stopped at step 5. To resume: {program('fit')} --resume {RUN}" in err
    assert "To resume" not in out


FIT_AND_LOOK = """
import os, sys, torch
from cifar_lab.cli import main
status = main()
# In one piece: both processes write here, and print would write word by word.
os.write(2, f"process group left: {torch.distributed.is_initialized()}\\n".encode())
sys.exit(status)
"""


@pytest.mark.slow
def test_two_processes_share_the_images_and_one_run_folder(tree: Path, run_two) -> None:
    Path("look.py").write_text(FIT_AND_LOOK)
    words = ["--model", "mlp", "--data_dir", str(tree), "--log_dir", "logs", "--max_steps", "10"]
    words += ["--batch_size", "10", "--devices", "2", "--strategy", "ddp", "--accelerator", "cpu"]
    done = run_two("look.py", "fit", *words)
    assert done.stderr.count("process group left: False") == 2
    assert [path.name for path in Path("logs/mlp").iterdir()] == ["version_0"]
    summary = _summary()
    assert summary["device"]["processes"] == 2
    assert summary["steps"] == 10
    assert done.stdout.count("cifar_lab ") == 1


@pytest.mark.slow
def test_two_processes_go_on_where_they_were(tree: Path, run_two) -> None:
    script = str(Path(__file__).parents[2] / "scripts" / "fit.py")
    words = f"--model mlp --data_dir '{tree}' --batch_size 10 --log_every 3 --eval_every 6"
    words += " --accelerator cpu --devices 2 --strategy ddp --dashboard off --progress none"
    words += " --val_size 0"  # else the first run tests at its end
    run_two(script, *shlex.split(f"{words} --log_dir whole --max_steps 12"))
    run_two(script, *shlex.split(f"{words} --log_dir logs --max_steps 6"))
    run_two(script, "--resume", str(RUN), "--max_steps", "12")
    whole = Path("whole/mlp/version_0")
    for name, value in _weights(whole).items():
        assert torch.equal(_weights(RUN)[name], value), name
    tables = [_table(folder) for folder in (whole, RUN)]
    for row in (row for table in tables for row in table):
        del row["speed/images_per_second"]
    assert [row["step"] for row in tables[0]] == ["1", "3", "6", "9", "12"]
    assert tables[0] == tables[1]
