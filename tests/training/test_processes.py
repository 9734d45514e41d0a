"""The processes of a run: which one this is, and what two of them train and evaluate on."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.errors import UserError
from cifar_lab.plan import Plan
from cifar_lab.training import processes
from cifar_lab.training.trainer import build_trainer

FIT = Path(__file__).parents[2] / "scripts" / "fit.py"

SCRIPT = """
import json, sys
import torch
from pytorch_lightning import Trainer
from cifar_lab import CIFAR10DataModule
from cifar_lab.models import MLP

class Watched(CIFAR10DataModule):
    seen = {"train": [], "validate": [], "test": []}

    def on_after_batch_transfer(self, batch, dataloader_idx):
        images = [hash(image.numpy().tobytes()) for image in batch[0]]
        self.seen[self.trainer.state.stage.value].append(images)
        return super().on_after_batch_transfer(batch, dataloader_idx)

model = MLP(num_classes=3)
data = Watched(sys.argv[1], batch_size=9, eval_batch_size=4, val_size=15)
off = {"logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"}
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, num_sanity_val_steps=0,
    log_every_n_steps=1, **dict.fromkeys(off, False),
)
trainer.fit(model, data)
trainer.test(model, data, verbose=False)
result = {"seen": data.seen, "accuracy": trainer.callback_metrics["acc/test"].item()}
json.dump(result, open(f"rank{trainer.global_rank}.json", "w"))
# Else gloo's thread may still run when the process ends, which aborts it now and then.
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_each_image_is_trained_and_evaluated_once_over_both(tree: Path, run_two) -> None:
    Path("watch.py").write_text(SCRIPT)
    run_two("watch.py", str(tree))
    ranks = [json.loads(Path(f"rank{rank}.json").read_text()) for rank in range(2)]
    counts = {
        split: Counter(image for rank in ranks for batch in rank["seen"][split] for image in batch)
        for split in ("train", "validate", "test")
    }
    # 105 training images: 52 for each process, of which five batches of nine are taken.
    sizes = {split: count.total() for split, count in counts.items()}
    assert sizes == {"train": 90, "validate": 15, "test": 45}
    assert all(max(count.values()) == 1 for count in counts.values())
    assert ranks[0]["accuracy"] == ranks[1]["accuracy"]
    assert ranks[0]["accuracy"] * 45 == pytest.approx(round(ranks[0]["accuracy"] * 45), abs=1e-3)


SPAWNED = """
import json, sys
from pytorch_lightning import Callback, Trainer
from cifar_lab import CIFAR10DataModule
from cifar_lab.models import DeepMLP

class Note(Callback):
    seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append([hash(image.numpy().tobytes()) for image in batch[0]])

    def on_train_end(self, trainer, pl_module):
        json.dump(self.seen, open(f"rank{trainer.global_rank}.json", "w"))

if __name__ == "__main__":
    data = CIFAR10DataModule(sys.argv[1], batch_size=9, val_size=15, augment=["flip"])
    data.setup()
    off = {"logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"}
    options = {"devices": 2, "strategy": "ddp_spawn", "max_epochs": 1, "callbacks": [Note()]}
    trainer = Trainer(accelerator="cpu", **options, **dict.fromkeys(off, False))
    trainer.fit(DeepMLP([8], num_classes=3), data.train_dataloader(), data.val_dataloader())
"""


@pytest.mark.slow
def test_plain_loaders_are_shared_by_processes_that_are_spawned_too(tree: Path, run_two) -> None:
    Path("spawn.py").write_text(SPAWNED)
    run_two("spawn.py", str(tree))
    ranks = [json.loads(Path(f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [5, 5]
    images = Counter(image for batches in ranks for batch in batches for image in batch)
    assert images.total() == len(images) == 90


def _srun(tasks: int, nodes: int = 1, rank: int = 0) -> str:
    names = ("STEP_ID", "STEP_NUM_TASKS", "STEP_NUM_NODES", "PROCID", "LOCALID", "NODEID", "JOB_ID")
    local, node = rank % (tasks // nodes), rank // (tasks // nodes)
    values = (0, tasks, nodes, rank, local, node, 77)
    told = " ".join(f"SLURM_{name}={value}" for name, value in zip(names, values, strict=True))
    return f"{told} SLURM_NTASKS={tasks} SLURM_JOB_NAME=train SLURM_STEP_NODELIST=n[1-{nodes}]"


def _torchrun(processes: int, nodes: int = 1, rank: int = 0) -> str:
    told = f"TORCHELASTIC_RUN_ID=none WORLD_SIZE={processes} GROUP_WORLD_SIZE={nodes} RANK={rank}"
    return f"{told} LOCAL_RANK={rank} GROUP_RANK=0 MASTER_ADDR=here MASTER_PORT=1234"


STALE = "RANK=1 LOCAL_RANK=1 WORLD_SIZE=2 NODE_RANK=1 MASTER_ADDR=elsewhere MASTER_PORT=1"
EMPTY = "RANK= LOCAL_RANK= WORLD_SIZE= SLURM_PROCID= SLURM_NTASKS= SLURM_STEP_NUM_TASKS="
BATCH = "SLURM_NTASKS=4 SLURM_JOB_NAME=x SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0"
VARIABLES = (STALE, EMPTY, BATCH, "SLURM_PROCID=3", _srun(4, rank=2), _srun(4, 2, rank=3))


def _set(monkeypatch: pytest.MonkeyPatch, variables: str) -> None:
    for name, value in (entry.split("=", 1) for entry in variables.split()):
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("variables", ["", *VARIABLES, _torchrun(1)])
@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_a_run_on_one_device_is_one_process(variables: str, strategy: str, monkeypatch) -> None:
    _set(monkeypatch, variables)
    monkeypatch.setattr(rank_zero_only, "rank", 3)  # what Lightning read when it was imported
    settings = Plan.of("mlp", accelerator="cpu", strategy=strategy).settings
    trainer = build_trainer(settings, cpu_only=False)
    assert (trainer.world_size, trainer.global_rank, rank_zero_only.rank) == (1, 0, 0)


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "rank", "place"),
    [
        (STALE, 2, 1, 0, "127.0.0.1"),  # nobody started the others
        (BATCH, 2, 1, 0, "127.0.0.1"),
        (_srun(1), 2, 1, 0, "127.0.0.1"),
        (_srun(2, rank=1), 2, 1, 1, "n1"),
        (_srun(4, 2, rank=3), 2, 2, 3, "n1"),
        (_torchrun(2, rank=1), 2, 1, 1, "here:1234"),
        ("NODE_RANK=1 MASTER_ADDR=there MASTER_PORT=9", 2, 2, 2, "there:9"),
        ("NODE_RANK=", 2, 2, 0, "127.0.0.1"),
    ],
)
def test_several_processes_have_the_ranks_of_their_launcher(
    variables: str, devices: int, nodes: int, rank: int, place: str, monkeypatch
) -> None:
    _set(monkeypatch, variables)
    settings = Plan.of("mlp", accelerator="cpu", devices=devices, num_nodes=nodes).settings
    trainer = build_trainer(settings, cpu_only=False)
    assert trainer.world_size == devices * nodes
    assert trainer.global_rank == rank_zero_only.rank == rank
    environment = trainer.strategy.cluster_environment
    assert f"{environment.main_address}:{environment.main_port}".startswith(place)
    monkeypatch.setattr(rank_zero_only, "rank", 0)


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "told"),
    [
        (_torchrun(2), 1, 1, "torchrun started 2 .* ask for 1 on 1. .* --devices 2 --num_nodes 1"),
        (_torchrun(1), 2, 1, "torchrun started 1 .* ask for 2 on 1. .* --devices 1 --num_nodes 1"),
        (_srun(2, 2), 1, 1, "srun started 2 .* ask for 1 on 1. .* --devices 1 --num_nodes 2"),
        (_srun(4, 2), 2, 1, "srun started 4 .* ask for 2 on 1. .* --devices 2 --num_nodes 2"),
        (_srun(4), 2, 1, "srun started 4 .* ask for 2 on 1. .* --devices 4 --num_nodes 1"),
        (BATCH + " SLURM_JOB_ID=7", 1, 2, "--num_nodes 2: let srun start the 2 processes"),
    ],
)
def test_a_launcher_of_another_number_is_refused_once(
    variables: str, devices: int, nodes: int, told: str, monkeypatch
) -> None:
    _set(monkeypatch, variables)
    with pytest.raises(UserError, match=told):
        processes.Environment(devices, nodes)
    _set(monkeypatch, "RANK=1 SLURM_PROCID=1")
    monkeypatch.setattr(processes, "GRACE", 0)
    if " started " in told:
        with pytest.raises(SystemExit, match="2"):  # without a word
            processes.Environment(devices, nodes)


def _start(tree: Path, *words: str, variables: str = "") -> subprocess.Popen:
    given = f"--model mlp --data_dir '{tree}' --log_dir logs --batch_size 20 --accelerator cpu"
    given += " --dashboard off --progress none"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment |= dict(entry.split("=", 1) for entry in variables.split())
    command = [sys.executable, str(FIT), *shlex.split(given), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("variables", [EMPTY, STALE, _srun(4, rank=2)])
def test_variables_of_a_scheduler_change_nothing(variables: str, tree: Path) -> None:
    srun = Path("bin/srun")
    srun.parent.mkdir()
    srun.touch(0o755)
    Path("hpc_ckpt_1.ckpt").write_text("from which Lightning would begin")
    path = f" PATH={srun.parent.absolute()}:/usr/bin:/bin"
    with _start(tree, "--max_steps", "4", variables=variables + path) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0
    assert out.count("run folder: logs/mlp/version_0") == 1
    assert [line for line in err.splitlines() if not line.startswith("decoding")] == []
    assert [path.name for path in Path("logs/mlp").iterdir()] == ["version_0"]


def _others(process: subprocess.Popen) -> list[int]:
    """The processes that a process of Linux has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(child) for child in children.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "ranks", "status"),
    [
        (signal.SIGKILL, [1], 1),
        (signal.SIGKILL, [0], -signal.SIGKILL),
        (signal.SIGUSR1, [1], 143),
        (signal.SIGUSR1, [0, 1], 143),
    ],
)
def test_one_of_two_processes_ends_the_run_with_one_line(
    number: signal.Signals, ranks: list[int], status: int, tree: Path
) -> None:
    last = Path("logs/mlp/version_0/checkpoints/last.ckpt")
    with _start(tree, "--max_steps", "1000000", "--devices", "2") as process:
        while not last.exists() or torch.load(last, weights_only=True)["global_step"] < 200:
            assert process.poll() is None
            time.sleep(0.1)
        for pid in [(process.pid, *_others(process))[rank] for rank in ranks]:
            os.kill(pid, number)
        _, err = process.communicate(timeout=240)  # until all processes have closed it
    assert process.returncode == status
    assert err.count("To resume: ") == err.count("--resume logs/mlp/version_0") == 1
    assert "Traceback" not in err
    assert (last.parents[1] / "traceback.txt").exists() == (number == signal.SIGKILL)
    assert list(Path().glob("hpc_ckpt*")) == []


@pytest.mark.slow
def test_a_log_folder_that_the_machines_do_not_share_is_named(tree: Path, monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = f"MASTER_ADDR=127.0.0.1 MASTER_PORT={free.getsockname()[1]}"
    machines = []
    for rank in range(2):
        Path(f"machine{rank}").mkdir()
        monkeypatch.chdir(f"machine{rank}")
        words = ("--num_nodes", "2", "--max_steps", "4")
        machines.append(_start(tree, *words, variables=f"{at} NODE_RANK={rank}"))
        monkeypatch.chdir("..")
    for process in machines:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 2
        assert "--log_dir: logs/mlp/version_0 exists on the first machine but not on all" in err


TWICE = """
import sys, cifar_lab
given = dict(data_dir=sys.argv[1], accelerator="cpu", devices=2, dashboard="off", log_dir="logs")
for seed in range(2):
    cifar_lab.fit("mlp", seed=seed, batch_size=20, max_steps=4, progress="none", **given)
"""


@pytest.mark.slow
def test_a_script_that_trains_twice_starts_the_other_process_once(tree: Path, run_two) -> None:
    Path("twice.py").write_text(TWICE)
    out = run_two("twice.py", str(tree)).stdout
    assert [line.split()[-1][-1] for line in out.splitlines() if "run folder" in line] == ["0", "1"]
    assert len(list(Path("logs/mlp").iterdir())) == 2
