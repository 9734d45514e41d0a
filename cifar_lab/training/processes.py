"""The processes of a run: which one this is, and what starts the others.

Lightning guesses both from variables such as ``RANK`` and ``SLURM_NTASKS``, which may come from
something else. Here the settings decide: a run on one device is one process. For several
processes a launcher, torchrun or srun, must have started as many as the settings ask for. Without
a launcher, the first process of a machine starts the others.

Sources: torchrun's variables
(https://docs.pytorch.org/docs/stable/elastic/run.html, "Environment Variables") and srun's
(https://slurm.schedmd.com/srun.html, "OUTPUT ENVIRONMENT VARIABLES").
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.errors import FAILED, WRONG_INPUT, UserError

GRACE = 10.0  # seconds for a process to exit by itself after another one is lost
# The variables by which a launcher tells a process: that it started it, the numbers of processes
# and machines, the rank of the process, its rank on its machine, and the rank of its machine.
TOLD_BY = {
    "cifar_lab": "CIFAR_LAB_STARTER WORLD_SIZE GROUP_WORLD_SIZE RANK LOCAL_RANK GROUP_RANK",
    "torchrun": "TORCHELASTIC_RUN_ID WORLD_SIZE GROUP_WORLD_SIZE RANK LOCAL_RANK GROUP_RANK",
    "srun": "SLURM_STEP_ID SLURM_STEP_NUM_TASKS SLURM_STEP_NUM_NODES "
    "SLURM_PROCID SLURM_LOCALID SLURM_NODEID",
}


@dataclass(frozen=True)
class Launch:
    """The processes that were started together, and which of them this one is."""

    by: str = ""  # a key of TOLD_BY, or "" for a process that was started alone
    processes: int = 1
    machines: int = 1
    rank: int = 0
    local_rank: int = 0
    machine: int = 0

    @classmethod
    def find(cls) -> "Launch":
        """Read the variables of a launcher; a single task of srun is alone."""
        for by, names in TOLD_BY.items():
            mark, *told = (os.environ.get(name, "") for name in names.split())
            if mark and all(value.isdecimal() for value in told):
                found = cls(by, *map(int, told))
                if by != "srun" or found.processes > 1:
                    return found
        return _started

    @property
    def may_be_several_runs(self) -> bool:
        """Whether each process may be a run of its own, as in ``srun -n4``; torchrun starts one.

        One task on each of several machines means one run, with ``--num_nodes`` forgotten.
        """
        return self.by == "srun" and (self.machines == 1 or self.machines < self.processes)


_started = Launch()  # of a process without a launcher, also once it has started the others


class Environment(LightningEnvironment):
    """Lightning's view of the processes of a run, which are ``devices`` on each machine.

    Lightning's ``rank_zero_only`` has the rank of this process from here on.

    Raises:
        UserError: A launcher started another number of processes, or several cannot be started.
        SystemExit: The same, in all processes of a launcher but the first, which reports it.
    """

    creates_processes_externally = True  # see start_others

    def __init__(self, devices: int, machines: int) -> None:
        super().__init__()
        launch, processes = Launch.find(), devices * machines
        if processes == 1 and launch.may_be_several_runs:
            launch = Launch()
        if launch.by and (launch.processes, launch.machines) != (processes, machines):
            if launch.rank:
                time.sleep(GRACE)  # torchrun ends all processes when one of them ends
                raise SystemExit(WRONG_INPUT)
            raise UserError(
                f"{launch.by} started {launch.processes} process(es) on {launch.machines} "
                f"machine(s); --devices and --num_nodes ask for {processes} on {machines}. One run "
                f"on all of them needs --devices {launch.processes // launch.machines} "
                f"--num_nodes {launch.machines}"
            )
        if not launch.by and processes > 1:
            _check_alone(processes, machines)
            machine = _number("NODE_RANK") if machines > 1 else 0
            launch = Launch("", processes, machines, machine * devices, 0, machine)
        self.launch, self._port = launch, _port(launch)
        rank_zero_only.rank = launch.rank

    @property
    def main_address(self) -> str:
        """The address of the first machine, at which the processes find each other."""
        apart = self.launch.by or self.launch.machines > 1  # else the variable is not for this run
        nodes = os.environ.get("SLURM_STEP_NODELIST", "") if self.launch.by == "srun" else ""
        first = SLURMEnvironment.resolve_root_node_address(nodes) or "127.0.0.1"
        return (os.environ.get("MASTER_ADDR") if apart else None) or first

    @property
    def main_port(self) -> int:
        """The port at that address."""
        return self._port

    def local_rank(self) -> int:
        """Return the rank of this process on its machine."""
        return self.launch.local_rank

    def node_rank(self) -> int:
        """Return the rank of this machine."""
        return self.launch.machine

    def teardown(self) -> None:
        """Keep the variables for the next run of a script; Lightning would remove some."""


def _check_alone(processes: int, machines: int) -> None:
    """Refuse several processes where they cannot be started."""
    if hasattr(sys, "ps1"):
        raise UserError(f"{processes} processes need a script; a notebook has only one")
    if machines > 1 and "SLURM_JOB_ID" in os.environ and "NODE_RANK" not in os.environ:
        raise UserError(f"--num_nodes {machines}: let srun start the {processes} processes")


def _port(launch: Launch) -> int:
    port = _number("MASTER_PORT") if launch.by or launch.machines > 1 else 0
    if not port and launch.by == "srun":
        # The same in all processes, and another one for each step of a job.
        port = 15_000 + (16 * _number("SLURM_JOB_ID") + _number("SLURM_STEP_ID")) % 10_000
    if not port:
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
    return port


def _number(name: str) -> int:
    """Return the number in a variable, 0 if there is none."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else 0


def start_others(trainer: Trainer) -> None:
    """Start the other processes of this machine, unless a launcher did, and say what is awaited.

    They run the command of this process, so they take part in the next run of a script too.
    """
    global _started
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or trainer.world_size == 1:
        return
    launch, place = environment.launch, (environment.main_address, str(environment.main_port))
    if launch.machines > 1 and launch.local_rank == 0:
        print(
            f"waiting for all {launch.processes} processes on {launch.machines} machines at "
            f"{':'.join(place)}; this is machine {launch.machine}",
            flush=True,
        )
    with contextlib.suppress(ValueError):  # in a thread that is not the main one
        # Torch waits for other processes without running Python, which raises KeyboardInterrupt.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if launch.by == "cifar_lab" and launch.local_rank:
        parent = os.getppid()
        _end_if(lambda: os.getppid() != parent)
    if launch.by:
        return
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = place
    children = []
    for local in range(1, trainer.num_devices):
        told = launch.processes, launch.machines, launch.rank + local, local, launch.machine
        names = TOLD_BY["cifar_lab"].split()
        variables = dict(zip(names, map(str, (os.getpid(), *told)), strict=True))
        command = [sys.executable, *sys.orig_argv[1:]]
        children.append(subprocess.Popen(command, env=os.environ | variables))
    _started = replace(launch, by="cifar_lab")
    _end_if(lambda: any(child.poll() for child in children))


def _end_if(is_lost: Callable[[], bool]) -> None:
    """End this process when another one is lost, unless it exits by itself.

    On GPUs it might otherwise wait forever.
    """

    def watch() -> None:
        while not is_lost():
            time.sleep(1)
        time.sleep(GRACE)
        os.write(2, b"Another process of the run was lost. To resume the run: --resume\n")
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()
