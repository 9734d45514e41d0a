"""The scalars of a run in TensorBoard: evaluations are runs of their own, in its folder.

TensorBoard has a colour for each run. Training is ``<run>``, evaluations are ``<run>/val`` and
``<run>/test``, so that a chart of all of them has a colour for each.
"""

from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from cifar_lab.run.folder import RunFolder

EVALUATIONS = ("val", "test")
START = 0.05  # share of the steps that the charts of the loss leave out, where it may be very high


def by_run(
    scalars: Mapping[str, float], step: int, last_step: float
) -> dict[str, dict[str, float]]:
    """Return scalars by the run that they belong to: "" for training, "val" or "test".

    A loss after the start of a run of ``last_step`` steps is there a second time, as
    ``loss_after_start/<split>``.
    """
    found: dict[str, dict[str, float]] = {}
    for tag, value in scalars.items():
        name, _, split = tag.partition("/")
        part = found.setdefault(split if split in EVALUATIONS else "", {})
        part[tag] = value
        if name == "loss" and step > START * last_step:
            part[f"loss_after_start/{split}"] = value
    return found


class RunLogger(TensorBoardLogger):
    """Lightning's logger for TensorBoard, which writes evaluations into folders of their own.

    Args:
        folder: the folder of the run.
        resumed_from: step that the run is resumed from, or None for a new run. TensorBoard hides
            what it has of later steps.

    Attributes:
        last_step: number of steps that the run will have. Until training begins, it is the step
            that the run is resumed from, which is right where no step is left.
    """

    def __init__(self, folder: RunFolder, resumed_from: int | None) -> None:
        self._purge_step = None if resumed_from is None else resumed_from + 1
        self._evaluations: dict[str, SummaryWriter] = {}
        self.last_step: float = resumed_from or 0
        super().__init__(
            folder.log_dir.absolute(),  # its thread writes later, perhaps from another folder
            folder.name,
            folder.version,
            default_hp_metric=False,
            purge_step=self._purge_step,
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars at a step."""
        for run, scalars in by_run(metrics, step or 0, self.last_step).items():
            if not run:
                super().log_metrics(scalars, step)
                continue
            if run not in self._evaluations:
                path = Path(self.log_dir) / run
                self._evaluations[run] = SummaryWriter(path, purge_step=self._purge_step)
            for tag, value in scalars.items():
                self._evaluations[run].add_scalar(tag, value, step)

    @rank_zero_only
    def save(self) -> None:
        """Write to the disk what was logged so far."""
        super().save()
        for writer in self._evaluations.values():
            writer.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files; what is logged later opens new ones."""
        super().finalize(status)
        for writer in self._evaluations.values():
            writer.close()
