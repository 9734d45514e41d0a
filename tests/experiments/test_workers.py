"""Several runs at the same time: the same results, and an end when one of them ends badly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.experiments.study import Study
from cifar_lab.experiments.workers import side_by_side
from cifar_lab.plan import Plan

PLAN = Plan.of("mlp", hidden_units=4, batch_size=20, max_steps=6, eval_every=3, dashboard="off")
PLAN = PLAN.replace(accelerator="cpu", precision="32-true")


def _work(number: int) -> int:
    if number == 7:
        raise UserError("7: refused")
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_results_errors_and_deaths_of_workers_reach_the_caller() -> None:
    found = side_by_side(_work, [1, 2, 7], 1)
    assert [next(found), next(found)] == [(1, 2), (2, 4)]
    with pytest.raises(UserError, match="7: refused"):
        next(found)
    with pytest.raises(TrainingEndedError, match="A worker process was lost"):
        list(side_by_side(_work, [9, 9], 2))


def test_runs_side_by_side_are_those_one_after_the_other(tree, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan = PLAN.replace(data_dir=str(tree))
    found = [
        Study({"": plan.replace(log_dir=folder)}, [0, 1, 2], "", workers=workers).runs()[""]
        for folder, workers in (("a", 1), ("b", 2))
    ]
    for one, other in zip(*found, strict=True):
        states = [torch.load(run.checkpoint("last"))["state_dict"] for run in (one, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not list(Path("b").glob(".*.lock"))


def test_a_run_that_another_process_trains_is_waited_for(tree, monkeypatch, capsys) -> None:
    plan = PLAN.replace(data_dir=str(tree), log_dir="logs")
    study = Study({"": plan}, [0], "")
    outcomes = iter([None, study.train(plan)])
    monkeypatch.setattr("cifar_lab.experiments.study.PAUSE", 0)
    monkeypatch.setattr(Study, "obtain", lambda *args: next(outcomes))
    monkeypatch.setattr(Study, "find", lambda *args: None)
    assert len(study.runs()[""]) == 1
    assert "waiting for runs that other processes train" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_workers_end_with_the_first_process_and_their_runs_can_be_resumed(tree, name) -> None:
    words = f"fit --model mlp --hidden_units 4 --batch_size 20 --data_dir '{tree}' --seeds 0,1"
    words += " --workers 2 --max_steps 100000 --eval_every 50 --dashboard off --log_dir logs"
    command = f"exec '{sys.executable}' -m cifar_lab {words}"
    process = subprocess.Popen(["sh", "-c", command], start_new_session=True)
    deadline = time.monotonic() + 200
    while len(list(Path("logs").glob("*/*/metrics.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(process.pid, getattr(signal, name))
    assert process.wait(100) in (130, -signal.SIGKILL)
    while list(Path("logs").glob("*/*/run.lock")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not list(Path("logs").glob("*/*/run.lock"))  # no worker trains any more
    assert len(list(Path("logs").glob("*/*/checkpoints/last.ckpt"))) == 2
