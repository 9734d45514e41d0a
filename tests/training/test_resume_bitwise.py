"""A run killed at any moment and resumed ends as if nothing had been."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lab.models import REGISTRY
from cifar_lab.plan import RUN
from cifar_lab.recipes import recipes

sys.path.insert(0, str(Path(__file__).parent))  # for the processes that are started
import processes

SPEED = "speed/images_per_second"


def words(tree: Path, *more: str, model: str = "mlp", log_dir: str = "logs") -> list[str]:
    given = {"--data_dir": str(tree), "--model": model, "--log_dir": log_dir, "--max_steps": "13"}
    given |= {"--batch_size": "20", "--eval_every": "4", "--log_every": "3", "--progress": "none"}
    given |= {"--checkpoint_minutes": "1e-6", "--dashboard": "scalars"}
    given |= {"--precision": "32-true"}  # which each process would decide by a timing
    given = {flag: value for flag, value in given.items() if flag not in more}
    return [word for pair in given.items() for word in pair] + list(more)


def checkpoints(folder: Path) -> dict[str, dict]:
    paths = sorted((folder / "checkpoints").iterdir())
    return {path.name: torch.load(path, weights_only=True) for path in paths}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != SPEED} for row in csv.DictReader(file)]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = {}
    for part in filter(Path.exists, (folder, folder / "val", folder / "test")):
        # TensorBoard reads its files by name: second, host, process. Two processes of one second,
        # as here, may be in the wrong order (99999 and 100000), so they are renamed in that of
        # writing.
        files = sorted(part.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns)
        for number, path in enumerate(files):
            path.rename(part / f"events.out.tfevents.{number:03}")
        events = EventAccumulator(str(part), size_guidance={"scalars": 0}).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag != SPEED]
        found |= {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}
    return found


def same(first: object, second: object) -> bool:
    """Whether two checkpoints hold the same, but for the times."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        keys = first.keys() - {"seconds", "overall", SPEED}
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in keys)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def assert_same_run(whole: Path, resumed: Path) -> None:
    first, second = checkpoints(whole), checkpoints(resumed)
    assert first.keys() == second.keys()
    for name in first:
        for key in first[name].keys() - {"loops"}:
            assert same(first[name][key], second[name][key]), (name, key)
    assert table(whole) == table(resumed)
    assert curves(whole) == curves(resumed)
    summaries = [json.loads((f / "summary.json").read_text()) for f in (whole, resumed)]
    assert summaries[0]["accuracy"] == summaries[1]["accuracy"]
    assert all(summary["images_per_second"] > 0 for summary in summaries)


def kill_and_compare(start: list[str], whole: list[str], spots: list[str], model: str) -> None:
    """Kills a run at the spots, one after the other, and compares it with a whole one."""
    assert processes.run(whole) == 0
    resume = ["--resume", "last", "--model", model, "--log_dir", "logs"]
    for number, spot in enumerate(spots):
        assert processes.run(resume if number else start, spot) == -signal.SIGKILL, spot
    assert processes.run(resume) == 0
    name = model.rpartition(":")[2]
    assert [path.name for path in Path("logs", name).iterdir()] == ["version_0"]
    assert_same_run(Path("whole", name, "version_0"), Path("logs", name, "version_0"))


# Calls are counted anew by each process: "step:3" is the third step behind the checkpoint.
SPOTS = {
    "in steps": ["step:1", "step:3", "step:1", "step:4", "step:3"],
    "at the ends of epochs": ["step:5", "step:6", "step:2"],
    "in evaluations": ["evaluation:1", "evaluation:1", "evaluation:2", "evaluation:2"],
    "while files are written": ["sync:9", "rename:3", "sync:5", "rename:4", "sync:8"],
    "before a checkpoint is the best one": ["best:1"],
    "at the end": ["step:13", "step:1", "test:1", "test:1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPOTS)
def test_a_run_killed_at_several_moments_is_that_never_killed(name: str, tree: Path) -> None:
    kill_and_compare(words(tree), words(tree, log_dir="whole"), SPOTS[name], "mlp")


@pytest.mark.slow
def test_a_run_killed_before_its_only_point_is_the_best_keeps_it(tree: Path) -> None:
    first, second = (words(tree, "--eval_every", "99", log_dir=name) for name in ("logs", "whole"))
    kill_and_compare(first, second, ["best:1"], "mlp")


# A model of the user's own: its rates are planned over the run, and each generator makes noise.
OWN = """
import random
import numpy as np
import torch
from torch import nn
from cifar_lab.models import ImageClassifier

class Planned(ImageClassifier):
    def __init__(self, lr: float = 0.01, num_classes: int = 10) -> None:
        layers = nn.Flatten(), nn.Linear(3072, 8), nn.Dropout(0.3), nn.Linear(8, num_classes)
        super().__init__(nn.Sequential(*layers), num_classes, "standardize", "sgd", lr)
        self.save_hyperparameters()

    def training_logits(self, images):
        noise = torch.randn(()).item() + np.random.normal() + random.gauss(0, 1)
        return self(images) * (1 + noise / 10)

    def configure_optimizers(self):
        optimizer, steps = super().configure_optimizers(), self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
"""
# Five steps an epoch; each length ends in its third.
# One that does something in each hook, and whose rate waits for a metric.
OWN += """
class Hooked(Planned):
    def shrink(self, *args):
        with torch.no_grad():
            self.network[1].weight.mul_(0.99)

    on_train_epoch_start = on_train_epoch_end = on_train_batch_start = shrink

    def on_train_batch_end(self, *args):
        super().on_train_batch_end(*args)
        self.shrink()

    every = {"interval": "epoch"}

    def configure_optimizers(self):
        optimizer = ImageClassifier.configure_optimizers(self)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
        schedule = plateau(optimizer, patience=0, mode="max", factor=0.8)  # lowers it every time
        return [optimizer], [{"scheduler": schedule, "monitor": "loss/val", **self.every}]

class HookedSteps(Hooked):
    every = {"interval": "step", "frequency": 5}
"""
LENGTHS = {"steps": ["--max_steps", "13"], "epochs": ["--max_epochs", "3", "--max_steps", "null"]}
OWN_NAMES = re.findall(r"class (\w+)", OWN)
# Settings that make a model small and random, where it has them.
SMALL = {"hidden_units": "64,32", "widths": "8,16", "width": "32", "blocks": "1"}
SMALL |= {"components": "32", "dropout": "0.3", "augment": "flip,crop"}


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("model", [*REGISTRY, *(f"own_planned:{name}" for name in OWN_NAMES)])
def test_every_model_goes_on_bit_for_bit(model: str, length: str, tree: Path) -> None:
    Path("own_planned.py").write_text(OWN)
    own = recipes()[model].own if model in REGISTRY else {}
    small = {f"--{name}": value for name, value in SMALL.items() if name in own.keys() | RUN.keys()}
    more = [*LENGTHS[length], *(word for pair in small.items() for word in pair)]
    if model == "cnn":  # large
        more += ["--checkpoint_minutes", "2", "--batch_size", "4"]
    first, second = (words(tree, *more, model=model, log_dir=name) for name in ("logs", "whole"))
    kill_and_compare(first, second, ["step:3", "evaluation:2", "step:4", "step:1"], model)


@pytest.mark.slow
def test_a_run_of_epochs_on_all_images_goes_on_bit_for_bit(tree: Path) -> None:
    more = [*LENGTHS["epochs"], "--val_size", "0", "--log_every", "4"]
    first, second = (words(tree, *more, log_dir=name) for name in ("logs", "whole"))
    kill_and_compare(first, second, ["step:3", "step:3", "step:6", "step:1"], "mlp")


@pytest.mark.slow
def test_a_few_batches_alone_go_on_bit_for_bit(tree: Path) -> None:
    # Lightning does not tell these the epoch: they keep their crops and mirror images.
    more = ["--overfit_batches", "2", "--augment", "alternating_flip,crop"]
    first, second = (words(tree, *more, log_dir=name) for name in ("logs", "whole"))
    kill_and_compare(first, second, ["step:4", "step:3", "step:2"], "mlp")


# As OWN, in two processes that note their noise, and that both end in the eighth step.
NOISY = """
import os, signal
from pathlib import Path
import numpy as np
import torch
from own_planned import Planned

class Noisy(Planned):
    def training_logits(self, images):
        logits, rank = super().training_logits(images), self.global_rank
        with Path(f"noise_{rank}.txt").open("a") as file:
            print(torch.rand(()).item(), np.random.rand(), file=file)
        if self.global_step == 7 and not Path(f"killed_{rank}").exists():
            Path(f"killed_{rank}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return logits
"""


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS)
def test_two_processes_make_other_noise_and_go_on_bit_for_bit(length: str, tree: Path) -> None:
    Path("own_planned.py").write_text(OWN)
    Path("own_noisy.py").write_text(NOISY)
    more = ["--devices", "2", "--accelerator", "cpu", *LENGTHS[length], "--batch_size", "10"]
    command = [sys.executable, "-m", "cifar_lab", "fit"]

    def run(*words: str) -> int:
        with Path(processes.OUTPUT).open("w") as told:
            return subprocess.run([*command, *words], stdout=told, stderr=told).returncode

    model = "own_noisy:Noisy"
    assert run(*words(tree, *more, model=model)) != 0
    assert run("--resume", "--model", model, "--log_dir", "logs") == 0
    assert run(*words(tree, *more, model=model, log_dir="whole")) == 0
    assert_same_run(Path("whole/Noisy/version_0"), Path("logs/Noisy/version_0"))
    noise = [Path(f"noise_{rank}.txt").read_text().split() for rank in range(2)]
    assert not set(noise[0]) & set(noise[1])
