"""A sweep: its search space, its method, and its Optuna study, which several processes may open.

The processes share the folder of the runs; they may be on several machines that share it.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from cifar_lab.errors import UserError, first_line
from cifar_lab.experiments.space import Space
from cifar_lab.experiments.study import Study
from cifar_lab.files import explained, shown
from cifar_lab.plan import Plan
from cifar_lab.run.folder import folder_of_runs

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class JournalLock(JournalFileOpenLock):
    """A lock that is released when its process dies; Optuna's own would last 30 seconds more."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


@dataclass(frozen=True)
class Sweep:
    """The settings of a sweep.

    Attributes:
        name: name of the study, and of its folder in the log folder of the plan.
        plan: settings that all trials share.
        space: distributions of the settings that are searched.
        words: the space as text, as the user gave it.
        seeds: seeds of each trial.
        trials: number of trials.
        sampler: "tpe", "random" or "grid".
        pruner: "none", "median" or "hyperband".
        storage: address of a database, or None for a file in the folder.
        command: command that started the sweep.
    """

    name: str
    plan: Plan = field(repr=False)
    space: Space
    words: Sequence[str]
    seeds: Sequence[int]
    trials: int
    sampler: str = "tpe"
    pruner: str = "none"
    storage: str | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise UserError(f"--study {shown(self.name)}: expected a name, not a path")
        if self.plan.settings.val_size == 0:
            raise UserError("--val_size 0: a sweep would select on the test set")
        if self.sampler == "grid" and self._choices.keys() != self.space.keys():
            raise UserError("--sampler grid: give choices such as lr=0.01,0.1 instead of a range")

    @property
    def folder(self) -> Path:
        """The folder of all runs of the sweep."""
        return folder_of_runs(self.plan.settings.log_dir) / self.name

    @property
    def lock(self) -> FileLock:
        """The lock to hold when a trial is taken or ended."""
        return FileLock(self.folder / "sweep.lock")

    @property
    def _choices(self) -> dict[str, list[Any]]:
        found = self.space.items()
        return {n: list(d.choices) for n, d in found if isinstance(d, CategoricalDistribution)}

    @property
    def size(self) -> int:
        """The number of trials; a grid has no more than its points."""
        if self.sampler != "grid":
            return self.trials
        return min(self.trials, prod(map(len, self._choices.values())))

    @cached_property
    def images(self) -> str:
        """The fingerprint of the images of all trials."""
        return Study({"": self.plan}, self.seeds, self.command).images

    def open(self) -> optuna.Study:
        """Open the study, or create it.

        Raises:
            UserError: The folder or the database cannot be used, or the study has other settings.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings = self._settings()
        with explained(f"log_dir {self.folder}: cannot be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with self.lock:
                study = optuna.create_study(
                    storage=self.storage or self._journal(),
                    study_name=self.name,
                    direction="maximize",
                    load_if_exists=True,
                    pruner=self._make_pruner(),
                )
                self._check_settings(study, settings)
                self.check_folder(study)
                if self.sampler == "grid":
                    self._queue_grid(study)
            return study
        except UserError:
            raise
        except Exception as error:  # a database may raise whatever its driver does
            where = "--storage" if self.storage else str(self.folder)
            raise UserError(f"{where}: cannot be opened ({first_line(error)})") from error

    def _journal(self) -> JournalStorage:
        path = self.folder / "study.journal"
        lock = JournalLock(self.folder / "study.journal.lock")
        return JournalStorage(JournalFileBackend(str(path), lock))

    def _settings(self) -> dict[str, Any]:
        """Return the settings that must be the same in all processes that open the study."""
        settings: dict[str, Any] = {"space": sorted(self.words), "seeds": [*self.seeds]}
        decisive = self.plan.decisive().items()
        settings |= {name: value for name, value in decisive if name not in self.space}
        return {**settings, "images": self.images}

    def _check_settings(self, study: optuna.Study, settings: dict[str, Any]) -> None:
        known = study.user_attrs.get("settings")
        if known is None:
            study.set_user_attr("settings", settings)
            return
        differing = sorted(n for n in known.keys() | settings if known.get(n) != settings.get(n))
        if differing:
            raise UserError(
                f"--study {self.name}: a study with other settings exists (they differ in "
                f"{', '.join(differing)}); give another --study"
            )

    def check_folder(self, study: optuna.Study) -> None:
        """Raise a UserError if the study is that of another folder.

        A database may be shared where the folder is not, but only the locks in the folder tell
        which trials are lost.
        """
        path = self.folder / "study.id"
        if not path.exists():
            path.write_text(uuid.uuid4().hex)
        own = path.read_text()
        if study.user_attrs.get("folder") is None:
            study.set_user_attr("folder", own)
        if study.user_attrs["folder"] != own:
            raise UserError(
                f"--log_dir {self.plan.settings.log_dir}: study {self.name} has its runs in "
                "another folder; all its workers must share one --log_dir"
            )

    def _queue_grid(self, study: optuna.Study) -> None:
        """Queue the points of the grid; Optuna's own sampler of grids needs its own loop."""
        points = islice(product(*self._choices.values()), self.size)
        for point in points:
            named = dict(zip(self._choices, point, strict=True))
            study.enqueue_trial(named, skip_if_exists=True)

    def make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return the sampler of a trial; its seed depends on the trial, not on the process."""
        seed = self.plan.settings.seed + 1000 * number
        if self.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return optuna.samplers.RandomSampler(seed)

    def _make_pruner(self) -> optuna.pruners.BasePruner:
        if self.pruner == "median":
            return optuna.pruners.MedianPruner()
        if self.pruner == "hyperband":
            steps = self.plan.settings.eval_every
            return optuna.pruners.HyperbandPruner(min_resource=steps)
        return optuna.pruners.NopPruner()
