"""The dashboard of whole runs: what each setting writes, when pictures come, and what they cost."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.cli import main
from cifar_lab.dashboards import drawing, tensorboard
from cifar_lab.dashboards.hparams import METRICS
from cifar_lab.dashboards.scalars import by_run

RUN = Path("logs/mlp/version_0")
FIGURES = {"confusion", "class_accuracy", "mistakes"}
MODEL_PICTURES = {"train/batch", "weights/first_layer"}


@pytest.fixture
def run(tree: Path) -> Callable[..., int]:
    """Train in this process for 25 steps with three evaluations; return the exit status."""
    flags = f"--data_dir '{tree}' --log_dir logs --batch_size 20 --max_steps 25 --eval_every 10"
    small = ["--model", "mlp", "--hidden_units", "8", "--progress", "none", "--log_every", "10"]
    return lambda *words: main(["fit", *shlex.split(flags), *small, *words])


def _events(folder: Path = RUN) -> EventAccumulator:
    sizes = {"images": 0, "tensors": 0, "histograms": 0}
    return EventAccumulator(str(folder), size_guidance=sizes).Reload()


def test_full_shows_pictures_of_the_last_evaluation_and_of_the_test(run) -> None:
    assert run() == 0
    events = _events()
    tags = events.Tags()
    expected = {f"{name}/{split}" for name in FIGURES for split in ("val", "test")}
    assert set(tags["images"]) == expected | MODEL_PICTURES
    # This run is over before earlier pictures would be worth their time.
    assert all([image.step for image in events.Images(tag)] == [25] for tag in tags["images"])
    assert tags["graph"]
    curves = {tag for tag in tags["tensors"] if tag.startswith("pr")}
    classes = ("bird", "cat", "frog")
    assert curves == {f"{group}/{name}" for group in ("pr", "pr_test") for name in classes}
    weights = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    parameters = {n.removeprefix("network."): w for n, w in weights.items() if "network" in n}
    labels = {"1": "linear1", "3": "linear2"}
    labels = {name: labels[name[0]] + name[1:] for name in parameters}
    assert set(tags["histograms"]) == {f"weights/{label}" for label in labels.values()}
    for name, values in parameters.items():
        found = events.Histograms(f"weights/{labels[name]}")
        assert [event.step for event in found] == [*range(0, 25, 2)]  # even steps, from the first
        assert found[-1].histogram_value.num == values.numel()
    written = {path.name for path in (RUN / "figures").iterdir()}
    pictures = {tag.replace("/", "_") for tag in tags["images"]}
    assert written == {f"{name}.png" for name in {"curves", *pictures}}


def test_a_resumed_run_goes_on_with_its_histograms_and_its_evaluations(run) -> None:
    assert run("--max_steps", "10", "--eval_every", "5") == 0
    assert main(["fit", "--resume", str(RUN), "--max_steps", "20", "--progress", "none"]) == 0
    found = _events().Histograms("weights/linear1.weight")
    assert [event.step for event in found] == [*range(11), *range(12, 21, 2)]
    points = _events(RUN / "val").Scalars("acc/val")
    assert [point.step for point in points] == [5, 10, 15, 20]


def test_files_are_written_where_the_run_began(run, monkeypatch) -> None:
    opened: list[str] = []
    start = SummaryWriter.__init__

    def note(writer: SummaryWriter, log_dir: Any, **options: Any) -> None:
        opened.append(str(log_dir))
        start(writer, log_dir, **options)

    monkeypatch.setattr(SummaryWriter, "__init__", note)
    assert run("--dashboard", "scalars") == 0
    folder = RUN.absolute()  # the current folder may change
    assert opened == [str(path) for path in (folder, folder / "val", folder / "test")]


def test_scalars_has_norms_final_accuracies_and_texts_but_no_pictures(run) -> None:
    assert run("--dashboard", "scalars") == 0
    events, summary = _events(), json.loads((RUN / "summary.json").read_text())
    tags = events.Tags()
    norms = [f"{kind}_norm/linear{n}" for kind in ("grad", "weight") for n in (1, 2)]
    for tag in ("loss/train", *norms):
        assert [event.step for event in events.Scalars(tag)] == [1, 10, 20, 25]
    val, test = summary["accuracy"]["val"], summary["accuracy"]["test"]
    values = [events.Scalars(tag)[-1].value for tag in METRICS]
    assert values == pytest.approx([test["of_best_checkpoint"], val["best"], val["last"]])
    assert tags["images"] == tags["histograms"] == []
    assert not (RUN / "figures").exists()
    assert not tags["graph"]
    texts = [f"run/{title}/text_summary" for title in ("configuration", "environment")]
    assert set(tags["tensors"]) == {*texts, "custom_scalars__config__"}
    (shown,) = events.Tensors(texts[0])[0].tensor_proto.string_val
    config = (RUN / "config.yaml").read_text().rstrip().splitlines()
    assert shown.decode().splitlines() == [f"    {line}" for line in config]  # a block of Markdown
    assert 0 < summary["seconds"]["dashboard"] < summary["seconds"]["total"]


def test_the_charts_of_the_loss_begin_after_the_first_steps() -> None:
    scalars = {"loss/train": 90.0, "acc/train": 0.1, "loss/val": 80.0, "acc/val": 0.2, "lr": 0.1}
    early, late = by_run(scalars, 5, 100), by_run(scalars, 6, 100)
    assert early == {
        "": {"loss/train": 90.0, "acc/train": 0.1, "lr": 0.1},
        "val": {"loss/val": 80.0, "acc/val": 0.2},
    }
    assert late[""] == {**early[""], "loss_after_start/train": 90.0}
    assert late["val"] == {**early["val"], "loss_after_start/val": 80.0}


def test_off_draws_nothing_and_trains_to_the_same_weights(run, monkeypatch) -> None:
    run("--dashboard", "full")
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, drawing.__name__)
        patch.delattr(drawing.__name__)
        assert run("--dashboard", "off") == 0
        assert drawing.__name__ not in sys.modules  # it loads matplotlib
    folder = Path("logs/mlp/version_1")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.yaml", "metrics.csv", "summary.json", "checkpoints"}
    assert json.loads((folder / "summary.json").read_text())["seconds"]["dashboard"] == 0
    full, off = (
        torch.load(path / "checkpoints/last.ckpt", weights_only=True) for path in (RUN, folder)
    )
    assert all(torch.equal(full["state_dict"][k], off["state_dict"][k]) for k in off["state_dict"])
    assert full["callbacks"].keys() == off["callbacks"].keys()  # nothing of the dashboard


def test_with_time_to_spare_pictures_come_each_quarter_and_at_the_end(run, monkeypatch) -> None:
    monkeypatch.setattr(tensorboard, "SHARE", 1e9)
    draw = Mock(wraps=drawing.rasterise)
    monkeypatch.setattr(drawing, "rasterise", draw)
    run("--eval_every", "2")
    events = _events()
    steps = [2, 8, 14, 20, 25]  # the first evaluation after 0, 25, 50 and 75 %, and the last one
    assert [image.step for image in events.Images("confusion/val")] == steps
    assert [image.step for image in events.Images("confusion/test")] == [25]  # of an older step
    evaluations = [f"validation images, step {step}" for step in steps]
    titles = dict.fromkeys(call.args[0].get_suptitle() for call in draw.mock_calls)  # in order
    assert list(titles) == [*evaluations, "test images, best.ckpt"]


def test_the_protocol_of_the_report_shows_the_test_set(run) -> None:
    run("--val_size", "0")
    assert set(_events().Tags()["images"]) == {f"{name}/test" for name in FIGURES} | MODEL_PICTURES


def test_a_picture_that_fails_does_not_end_the_run(run, monkeypatch) -> None:
    monkeypatch.setattr(drawing, "draw_evaluation", Mock(side_effect=OSError("no space left")))
    with pytest.warns(UserWarning, match="pictures left out: no space left"):
        assert run() == 0
    assert (RUN / "summary.json").exists()


def test_a_numpy_network_has_norms_and_pictures(run) -> None:
    assert run("--model", "numpy_mlp") == 0
    events = _events(Path("logs/numpy_mlp/version_0"))
    assert "grad_norm/linear1" in events.Tags()["scalars"]
    assert set(events.Tags()["images"]) >= MODEL_PICTURES
    assert "run/graph/text_summary" in events.Tags()["tensors"]


@pytest.mark.slow
def test_of_two_processes_the_first_writes(tree: Path) -> None:
    words = f"--model mlp --data_dir '{tree}' --log_dir logs --max_steps 10 --batch_size 10"
    words += " --devices 2 --strategy ddp --accelerator cpu"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = Path(__file__).parents[2] / "scripts" / "fit.py"
    command = [sys.executable, str(script), *shlex.split(words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    events = _events()
    assert set(events.Tags()["images"]) >= MODEL_PICTURES
    assert [event.step for event in events.Scalars("grad_norm/linear1")] == [1, 10]
