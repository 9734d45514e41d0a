"""The dashboard of whole runs: what each setting writes, when pictures come, and what they cost."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.cli import fit
from cifar_lab.dashboards import drawing
from cifar_lab.dashboards.budget import Budget
from cifar_lab.dashboards.hparams import METRICS

RUN = Path("logs/mlp/version_0")
PICTURES = {"confusion", "class_accuracy", "mistakes"}
MODEL_PICTURES = {"train/batch", "weights/first_layer"}


@pytest.fixture
def run(tree: Path) -> Callable[..., int]:
    """Runs fit.py in this process for 25 steps with three evaluations; gives the status."""
    flags = f"--data_dir '{tree}' --log_dir logs --batch_size 20 --max_steps 25 --eval_every 10"
    small = ["--model", "mlp", "--hidden_units", "8", "--progress", "none", "--log_every", "10"]
    return lambda *words: fit([*shlex.split(flags), *small, *words])


def _events(folder: Path = RUN) -> EventAccumulator:
    events = EventAccumulator(
        str(folder), size_guidance={"images": 0, "tensors": 0, "histograms": 0}
    )
    events.Reload()
    return events


def _steps(events: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in events.Images(tag)]


def test_full_shows_pictures_of_the_last_evaluation_and_of_the_test(run) -> None:
    assert run() == 0
    events = _events()
    expected = {f"{name}/{split}" for name in PICTURES for split in ("val", "test")}
    assert set(events.Tags()["images"]) == expected | MODEL_PICTURES
    # This run is over before pictures on the way would be worth their time.
    assert all(_steps(events, tag) == [25] for tag in events.Tags()["images"])
    assert events.Tags()["graph"]
    weights = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    parameters = {n.removeprefix("network."): w for n, w in weights.items() if "network" in n}
    assert set(events.Tags()["histograms"]) == {f"weights/{name}" for name in parameters}
    for name, values in parameters.items():
        (event,) = events.Histograms(f"weights/{name}")
        assert event.step == 25
        assert event.histogram_value.num == values.numel()
        assert event.histogram_value.sum == pytest.approx(values.sum().item(), abs=1e-4)
    curves = {tag for tag in events.Tags()["tensors"] if tag.startswith("pr")}
    assert curves == {f"{group}/{name}" for group in ("pr", "pr_test") for name in _CLASSES}


_CLASSES = ("bird", "cat", "frog")


def test_scalars_has_norms_hparams_and_text_but_no_pictures(run) -> None:
    assert run("--dashboard", "scalars") == 0
    tags = _events().Tags()
    norms = {f"{k}_norm/{n}.Linear" for k in ("grad", "weight") for n in (1, 3)}
    assert norms | set(METRICS) <= set(tags["scalars"])
    assert tags["images"] == tags["histograms"] == []
    assert not tags["graph"]
    assert set(tags["tensors"]) == {
        "run/configuration/text_summary",
        "run/environment/text_summary",
        "custom_scalars__config__",
    }


def test_off_leaves_the_table_alone(run) -> None:
    assert run("--dashboard", "off") == 0
    assert {path.name for path in RUN.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "checkpoints",
    }
    assert json.loads((RUN / "summary.json").read_text())["seconds"]["dashboard"] == 0


def test_norms_come_at_the_steps_of_the_training_curves(run) -> None:
    run("--dashboard", "scalars")
    events = _events()
    for tag in ("grad_norm/1.Linear", "weight_norm/3.Linear", "loss/train"):
        assert [event.step for event in events.Scalars(tag)] == [1, 10, 20, 25]


def test_with_time_to_spare_pictures_come_once_a_quarter_and_at_the_end(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Budget, "allows_drawing", lambda budget: True)
    run("--eval_every", "2")
    steps = _steps(_events(), "confusion/val")
    assert steps == [2, 8, 14, 20, 25]  # the first evaluation behind 0, 25, 50 and 75 %, the last
    assert _steps(_events(), "confusion/test") == [25]  # testing an older checkpoint


def test_titles_say_which_weights_were_evaluated(run, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []
    monkeypatch.setattr(drawing, "draw_evaluation", lambda *given: titles.append(given[4]))
    run()
    assert titles == ["validation images, step 25", "test images, best.ckpt"]


def test_the_protocol_of_the_report_shows_the_test_set(run) -> None:
    run("--val_size", "0")
    images = set(_events().Tags()["images"])
    assert images == {f"{name}/test" for name in PICTURES} | MODEL_PICTURES


def test_final_accuracies_are_those_of_the_summary(run) -> None:
    run("--dashboard", "scalars")
    events = _events()
    accuracy = json.loads((RUN / "summary.json").read_text())["accuracy"]
    values = [events.Scalars(tag)[-1].value for tag in METRICS]
    expected = [
        accuracy["test"]["of_best_checkpoint"],
        accuracy["val"]["best"],
        accuracy["val"]["last"],
    ]
    assert values == pytest.approx(expected)


def test_the_time_spent_is_in_the_summary(run) -> None:
    run()
    seconds = json.loads((RUN / "summary.json").read_text())["seconds"]
    assert 0 < seconds["dashboard"] < seconds["total"]
    assert 0 < seconds["train"] < seconds["fit"] < seconds["total"]


def test_the_dashboard_changes_no_weight_and_is_not_in_checkpoints(run) -> None:
    run("--dashboard", "full")
    run("--dashboard", "off")
    full, off = (
        torch.load(f"logs/mlp/version_{n}/checkpoints/last.ckpt", weights_only=True) for n in (0, 1)
    )
    assert all(torch.equal(full["state_dict"][k], off["state_dict"][k]) for k in off["state_dict"])
    assert set(full["callbacks"]) == set(off["callbacks"]) == {"Together"}
    assert set(full["callbacks"]["Together"]) == set(off["callbacks"]["Together"])


def test_a_picture_that_fails_does_not_end_the_run(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(drawing, "draw_evaluation", fail)
    with pytest.warns(UserWarning, match="TensorBoard pictures left out: no space left"):
        assert run() == 0
    assert (RUN / "summary.json").exists()


def test_a_numpy_network_has_norms_and_pictures(run) -> None:
    assert run("--model", "numpy_mlp") == 0
    events = _events(Path("logs/numpy_mlp/version_0"))
    assert "grad_norm/linear0" in events.Tags()["scalars"]
    assert set(events.Tags()["images"]) >= MODEL_PICTURES
    assert "run/graph/text_summary" in events.Tags()["tensors"]


@pytest.mark.slow
def test_of_two_processes_the_first_writes_and_says_what_it_shows(tree: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "fit.py"
    words = f"--model mlp --data_dir '{tree}' --log_dir logs --max_steps 10 --batch_size 10"
    words += " --devices 2 --strategy ddp --accelerator cpu"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *shlex.split(words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    events = _events()
    assert set(events.Tags()["images"]) >= MODEL_PICTURES
    assert [event.step for event in events.Scalars("grad_norm/1.Linear")] == [1, 10]
