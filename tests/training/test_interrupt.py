"""Ctrl-C and SIGTERM end a run between two steps; a second one at once."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.run.folder import RunFolder
from cifar_lab.run.run import Run
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.interrupt import Interrupt
from cifar_lab.training.outcome import outcome_of

sys.path.insert(0, str(Path(__file__).parent))  # for the processes that are started
import processes

RUN = Path("logs/mlp/version_0")


def words(tree: Path, *more: str) -> list[str]:
    given = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --max_steps 13"
    return [*shlex.split(f"{given} --eval_every 4 --progress none --dashboard off"), *more]


def last_step() -> int:
    path = RUN / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spot", "status", "step"),
    [
        ("step_sigint:2", 130, 2),  # sent when step 2 is over
        ("step_sigusr1:2", 143, 2),  # as SIGTERM
        ("step_sigterm:4", 143, 4),  # an evaluation follows: it is not waited for
        ("evaluation_sigterm:1", 143, 4),
        ("step_sigint:13", 130, 13),  # the last evaluation is waited for
        ("test_sigint:1", 130, 13),
        ("step_sigint:13 --val_size 0", 130, 13),  # though no test follows that could end
    ],
)
def test_a_signal_leaves_a_checkpoint_and_the_way_to_go_on(
    spot: str, status: int, step: int, tree: Path
) -> None:
    spot, *more = spot.split()
    assert processes.run(words(tree, *more), spot) == status
    told = Path(processes.OUTPUT).read_text()
    # Before it stands the interpreter, by its name or its path.
    assert re.search(
        rf"Stopped at step {step}\. To resume: \S+ -m cifar_lab fit --resume {RUN}", told
    )
    assert last_step() == step
    assert not (RUN / "summary.json").exists()
    assert processes.run(["--resume", str(RUN)]) == 0
    summary = json.loads((RUN / "summary.json").read_text())
    assert summary["steps"] == 13
    assert "test" in summary["accuracy"]


@pytest.mark.slow
def test_a_second_signal_leaves_at_once_with_a_whole_checkpoint(tree: Path) -> None:
    assert processes.run(words(tree), "step_sigint_twice:3") == 130
    assert last_step() == 0


@pytest.mark.slow
def test_a_scheduler_s_warning_ends_a_run_that_has_not_begun_as_sigterm_does(tree: Path) -> None:
    assert processes.run(words(tree), "start_sigusr1:1") == -signal.SIGTERM


@pytest.mark.parametrize("ask", ["ended", "_is_to_end"])
@pytest.mark.parametrize(
    ("own", "rank", "status"), [(None, 0, 143), (None, 1, 0), (signal.SIGINT, 0, 130)]
)
def test_a_signal_to_one_process_is_known_to_all(
    own: int | None, rank: int, status: int, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreeing = SimpleNamespace(reduce_boolean_decision=lambda wish, all: True)
    trainer = SimpleNamespace(strategy=agreeing, should_stop=False, sanity_checking=False)
    interrupt = Interrupt(SimpleNamespace(agreed=lambda trainer, wish: True))
    interrupt.received = own
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    assert getattr(interrupt, ask)(trainer)
    assert interrupt.status == status
    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail("its first signal ended it"))
    if own is None:  # what another process got is not its own first signal
        interrupt._note(signal.SIGTERM, None)


@pytest.mark.parametrize(("received", "status"), [(signal.SIGINT, 130), (None, 1)])
def test_a_process_lost_to_the_same_signal_is_no_failure(received, status, tmp_path) -> None:
    run = Run(RunFolder(tmp_path, "mlp", "version_0"))
    run.folder.path.mkdir(parents=True)
    checkpoints = Checkpoints(run.folder, "val", SimpleNamespace())
    interrupt = Interrupt(checkpoints)
    interrupt.received = received

    def lose() -> bool:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")

    outcome = outcome_of(lose, run, checkpoints, interrupt)
    assert outcome.status == status
    assert run.folder.traceback.exists() == (received is None)


def test_without_a_signal_nothing_has_ended() -> None:
    alone = SimpleNamespace(reduce_boolean_decision=lambda wish, all: wish)
    interrupt = Interrupt(SimpleNamespace())
    assert not interrupt.ended(SimpleNamespace(strategy=alone))
    assert interrupt.status == 0


def test_ctrl_c_in_an_import_that_swallows_it_ends_the_command() -> None:
    swallow = "try:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
    Path("own.py").write_text(f"import os, signal\n{swallow}")
    words = ["-m", "cifar_lab", "fit", "--model", "own:Mine", "--source", "synthetic"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\nInterrupted.\n")
