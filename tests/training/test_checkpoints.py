"""When checkpoints are saved, which is the best, and what they hold of random generators."""

import os
import random
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import seed_everything

from cifar_lab import files
from cifar_lab.plan import Plan
from cifar_lab.run.folder import RunFolder
from cifar_lab.training import random_state
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.random_state import gathered_states, restore_states

CURVES: Any = SimpleNamespace(
    is_point_due=lambda step: True, trainer=SimpleNamespace(callback_metrics={})
)
FOLDER = RunFolder(Path("logs"), "mlp", "version_0")


def _with_a_point(step: int) -> Checkpoints:
    """The callback after an evaluation, whose last.ckpt is written."""
    FOLDER.last_checkpoint.parent.mkdir(parents=True)
    FOLDER.last_checkpoint.write_bytes(b"weights")
    checkpoints = Checkpoints(FOLDER, "val", CURVES)
    checkpoints.points = [{"step": step, "accuracy": 0.5, "loss": 1.0}]
    return checkpoints


def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(number: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def note_rename(source: Path, target: Path) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    files.write_atomically(Path("x"), b"content")
    assert done == ["file", "rename", "folder"]
    _with_a_point(4).keep_if_best(4)
    assert done[3:] == ["file", "rename", "folder"]


def test_the_clock_saves_every_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(seconds=0.0)
    clock = SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr("cifar_lab.training.checkpoints.time", clock)
    saved: list[float] = []
    minutes = Plan.of().settings.checkpoint_minutes
    checkpoints = Checkpoints(FOLDER, "val", CURVES, minutes)
    monkeypatch.setattr(checkpoints, "save", lambda trainer: saved.append(now.seconds))
    run: Any = SimpleNamespace(world_size=1, global_step=0, should_stop=False)
    for now.seconds in (60.0, 119.0, 120.0):
        run.global_step += 1
        checkpoints.on_train_batch_end(run, None, None, None, 0)
        checkpoints.on_train_batch_start(run, None, None, None, 0)
    assert saved == [120.0]
    now.seconds = 125.0
    assert checkpoints.state_dict()["seconds"] == 125.0
    other = Checkpoints(checkpoints.folder, "val", CURVES)
    other.load_state_dict(checkpoints.state_dict())
    now.seconds = 130.0
    assert other.state_dict()["seconds"] == 130.0  # 125 before, 5 since


def test_the_best_point_is_the_first_of_the_highest() -> None:
    checkpoints = Checkpoints(FOLDER, "val", CURVES)
    values = [0.2, 0.5, 0.5, 0.4]
    checkpoints.points = [{"step": i, "accuracy": v, "loss": 1.0} for i, v in enumerate(values)]
    assert checkpoints.best["step"] == 1
    assert checkpoints.last["step"] == 3


@pytest.mark.parametrize(
    ("wish", "others", "point", "expected"),
    [
        (True, False, True, True),
        (False, True, True, True),
        (False, False, True, False),
        (True, True, False, False),  # asked at points of the curves alone
    ],
)
def test_a_wish_of_one_process_is_that_of_all(
    wish: bool, others: bool, point: bool, expected: bool
) -> None:
    asked = []

    def reduce(own: bool, all: bool) -> bool:
        asked.append(own)
        assert not all
        return own or others

    trainer = SimpleNamespace(
        world_size=2,
        training=True,
        global_step=3,
        strategy=SimpleNamespace(reduce_boolean_decision=reduce),
    )
    curves: Any = SimpleNamespace(is_point_due=lambda step: point)
    checkpoints = Checkpoints(FOLDER, "val", curves)
    assert checkpoints.agreed(trainer, wish) is expected  # type: ignore[arg-type]
    assert asked == ([wish] if point else [])
    trainer.world_size = 1
    assert checkpoints.agreed(trainer, wish) is wish  # type: ignore[arg-type]


def test_the_best_checkpoint_is_a_copy_that_can_be_written_into() -> None:
    _with_a_point(4).keep_if_best(4)
    assert FOLDER.best_checkpoint.read_bytes() == b"weights"
    with FOLDER.best_checkpoint.open("r+b") as file:
        file.write(b"W")
    assert FOLDER.last_checkpoint.read_bytes() == b"weights"
    names = {path.name for path in FOLDER.best_checkpoint.parent.iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}


def test_each_process_has_random_numbers_of_its_own(monkeypatch: Any) -> None:
    def numbers() -> list[float]:
        return [torch.rand(()).item(), float(np.random.normal()), random.gauss(0, 1)]

    monkeypatch.setenv("PL_GLOBAL_SEED", "")  # which seed_everything sets
    found = []
    for rank in (0, 1, 2):
        seed_everything(3, verbose=False)
        random_state.seed_process(rank)
        found += numbers()
    assert len({*found}) == 9
    seed_everything(3, verbose=False)
    assert numbers() == found[:3]  # the first process keeps its seed
    states = gathered_states()
    again = numbers()
    restore_states(states, 0)
    assert numbers() == again


def test_each_process_continues_with_its_own_random_numbers(monkeypatch: Any) -> None:
    # As two processes would save them together.
    first, second = (torch.Generator().manual_seed(seed).get_state() for seed in (1, 2))
    monkeypatch.setattr(random_state, "_gathered", lambda own: [{"cpu": first}, {"cpu": second}])
    saved = gathered_states()
    for rank, seed in enumerate((1, 2)):
        restore_states(saved, rank)
        assert torch.rand(1).equal(torch.rand(1, generator=torch.Generator().manual_seed(seed)))
