"""The processes of a run: which one this is, and who starts the others.

Lightning guesses both from variables such as ``RANK`` and ``SLURM_NTASKS``, which a process may
have from something else. Here the settings decide: a run on one device is one process. For several
processes a launcher, torchrun or srun, must have started as many as the settings ask for. Without
a launcher, the first process of a machine starts the others.

Sources: torchrun's variables
(https://docs.pytorch.org/docs/stable/elastic/run.html, "Environment Variables") and srun's
(https://slurm.schedmd.com/srun.html, "OUTPUT ENVIRONMENT VARIABLES").
"""

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
)
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.errors import FAILED, WRONG_INPUT, UserError

GRACE = 10.0  # seconds that a process has to end by itself when another one is lost
# What a launcher tells a process: a mark of the launcher, the numbers of processes and of machines,
# the rank of the process, its rank on its machine, and the rank of its machine.
TOLD_BY = {
    "cifar_lab": "CIFAR_LAB_STARTER WORLD_SIZE GROUP_WORLD_SIZE RANK LOCAL_RANK GROUP_RANK",
    "torchrun": "TORCHELASTIC_RUN_ID WORLD_SIZE GROUP_WORLD_SIZE RANK LOCAL_RANK GROUP_RANK",
    "srun": "SLURM_STEP_ID SLURM_STEP_NUM_TASKS SLURM_STEP_NUM_NODES "
    "SLURM_PROCID SLURM_LOCALID SLURM_NODEID",
}


@dataclass(frozen=True)
class Launch:
    """The processes that a launcher started, and which of them this one is."""

    by: str = ""  # a key of TOLD_BY, or "" for a process that was started alone
    processes: int = 1
    machines: int = 1
    rank: int = 0
    local_rank: int = 0
    machine: int = 0

    @classmethod
    def find(cls) -> "Launch":
        """Return what the variables of a launcher say; a single task of srun is alone."""
        for by, names in TOLD_BY.items():
            mark, *told = (os.environ.get(name, "") for name in names.split())
            if not mark or not all(value.isdecimal() for value in told):
                continue
            found = cls(by, *map(int, told))
            # Something else that the first process starts has its variables too.
            is_other = by == "cifar_lab" and not found.local_rank and mark != str(os.getpid())
            if not is_other and (by != "srun" or found.processes > 1):
                return found
        return cls()

    @property
    def may_be_several_runs(self) -> bool:
        """Whether each process may be a run of its own, as in ``srun -n4``; torchrun starts one.

        One task on each of several machines is a run over these, with ``--num_nodes`` forgotten.
        """
        return self.by == "srun" and (self.machines == 1 or self.machines < self.processes)


def cluster_environment(devices: int, machines: int) -> ClusterEnvironment:
    """Return what tells Lightning its processes: ``devices`` on each machine.

    Lightning's ``rank_zero_only`` has the rank of this process from here on.

    Raises:
        UserError: A launcher started another number of processes, or nothing can start several.
        SystemExit: The same in all processes of a launcher but the first, which says it for all.
    """
    launch, processes = Launch.find(), devices * machines
    if processes == 1 and launch.may_be_several_runs:
        launch = Launch()
    if launch.by and (launch.processes, launch.machines) != (processes, machines):
        if launch.rank:
            time.sleep(GRACE)  # torchrun ends all processes when one of them ends
            raise SystemExit(WRONG_INPUT)
        raise UserError(_mismatch(launch, devices, machines))
    if not launch.by and machines > 1:  # started by hand on each machine
        if "SLURM_JOB_ID" in os.environ and "NODE_RANK" not in os.environ:
            raise UserError(f"--num_nodes {machines}: let srun start the {processes} processes")
        machine = _number("NODE_RANK")
        launch = Launch("", processes, machines, machine * devices, 0, machine)
    if not launch.by and processes > 1 and hasattr(sys, "ps1"):
        raise UserError(f"--devices {devices}: in a notebook a run has one process; use a script")
    rank_zero_only.rank = launch.rank
    return _Environment(launch, *_meeting_point(launch))


def _mismatch(launch: Launch, devices: int, machines: int) -> str:
    wanted, each = devices * machines, launch.processes // launch.machines
    started = f"{launch.processes} process{'es' * (launch.processes > 1)}"
    where = f" on {launch.machines} machines" if launch.machines > 1 else ""
    flags = {f"--devices {each}": each != devices}
    flags[f"--num_nodes {launch.machines}"] = launch.machines != machines
    others = f"let {launch.by} start {wanted}"
    if launch.by == "srun" and wanted == 1:
        others = "submit a job array for a run on each machine"
    return (
        f"{launch.by} started {started}{where}; --devices and --num_nodes ask for {wanted}. Give "
        f"{' '.join(flag for flag, differs in flags.items() if differs)} to train one run on all "
        f"of them, or {others}"
    )


def _meeting_point(launch: Launch) -> tuple[str, int]:
    """Return the address and the port at which the processes find each other."""
    address, port = "", 0
    if launch.by or launch.machines > 1:  # else these variables belong to something else
        address, port = os.environ.get("MASTER_ADDR", ""), _number("MASTER_PORT")
    if launch.by == "srun":
        nodes = os.environ.get("SLURM_STEP_NODELIST", "")
        address = address or SLURMEnvironment.resolve_root_node_address(nodes)
        # The same in all processes, and another one for each step of a job.
        step = 16 * _number("SLURM_JOB_ID") + _number("SLURM_STEP_ID")
        port = port or 15_000 + step % 10_000
    return address or "127.0.0.1", port or _free_port()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def _number(name: str) -> int:
    """Return the number in a variable, 0 if there is none."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else 0


class _Environment(LightningEnvironment):
    """What Lightning asks about the processes of a run."""

    creates_processes_externally = True  # see start_others

    def __init__(self, launch: Launch, address: str, port: int) -> None:
        super().__init__()
        self.launch, self._address, self._port = launch, address, port

    @property
    def main_address(self) -> str:
        return self._address

    @property
    def main_port(self) -> int:
        return self._port

    def local_rank(self) -> int:
        return self.launch.local_rank

    def node_rank(self) -> int:
        return self.launch.machine


def start_others(trainer: Trainer) -> None:
    """Start the other processes of this machine, unless a launcher did; say what is waited for.

    They run the command of this process. The variables stay in this process, as with a launcher,
    since the others come to the next run of a script too.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or trainer.world_size == 1:
        return
    address, port = environment.main_address, environment.main_port
    if trainer.num_nodes > 1 and trainer.local_rank == 0:
        print(
            f"waiting for all {trainer.world_size} processes on {trainer.num_nodes} machines at "
            f"{address}:{port}; this is machine {environment.node_rank()}",
            flush=True,
        )
    if environment.launch.by == "cifar_lab" and trainer.local_rank:
        parent = os.getppid()
        _end_if(lambda: os.getppid() != parent)
    if environment.launch.by:
        return
    names = [*TOLD_BY["cifar_lab"].split(), "MASTER_ADDR", "MASTER_PORT"]
    children: list[subprocess.Popen] = []
    for local in reversed(range(trainer.num_devices)):
        rank, machine = trainer.global_rank + local, environment.node_rank()
        told = [os.getpid(), trainer.world_size, trainer.num_nodes, rank, local, machine]
        os.environ.update(zip(names, map(str, [*told, address, port]), strict=True))
        if local:
            children.append(subprocess.Popen([sys.executable, *sys.orig_argv[1:]]))
    _end_if(lambda: any(child.poll() for child in children))
    atexit.register(_wait_for, children)


def _end_if(is_lost: Callable[[], bool]) -> None:
    """End this process when another one is lost, unless it does so itself for lack of answers.

    On GPUs such a process may wait for ever.
    """

    def watch() -> None:
        while not is_lost():
            time.sleep(1)
        time.sleep(GRACE)
        os.write(
            2, b"cifar-lab: another process of the run was lost. --resume continues the run.\n"
        )
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for(children: list[subprocess.Popen]) -> None:
    for child in children:
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
