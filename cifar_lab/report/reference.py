"""Reference runs: the scalars of finished runs as small event files that TensorBoard shows."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from cifar_lab.dashboards.metrics_csv import COLUMNS
from cifar_lab.report.runs import Run
from cifar_lab.report.systems import System


def write_reference(system: System, runs: list[Run], folder: Path) -> list[Path]:
    """Writes one folder for each run, ``<recipe>/seed_<n>``, in place of an older one.

    Args:
        system: that the runs trained.
        runs: of it, one a seed.
        folder: of all reference runs.

    Returns:
        The event files.
    """
    return [_write(run, folder / system.recipe / f"seed_{run.summary['seed']}") for run in runs]


def _write(run: Run, folder: Path) -> Path:
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(str(folder))
    for tag in COLUMNS[1:]:
        for step, value in zip(*run.curve(tag), strict=True):
            # TensorBoard needs some time; steps in its place say nothing about a machine.
            writer.add_scalar(tag, float(value), int(step), walltime=float(step))
    writer.close()
    (written,) = folder.glob("events.out.tfevents.*")
    return written.rename(folder / "events.out.tfevents.0.reference")  # without the host's name
