"""MLflow, Weights & Biases and Comet beside TensorBoard, through Lightning's own loggers.

Each service gets all settings, the curves under the tags of metrics.csv, the final accuracies, and
how the run ended; a resumed run continues there. If a service fails during a run, a warning says so
and nothing is sent to it before the end: the folder of the run holds everything.
"""

import os
import re
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from filelock import FileLock
from pytorch_lightning.loggers import CometLogger, MLFlowLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab.errors import FAILED, UserError, first_line
from cifar_lab.files import read_json, write_json
from cifar_lab.plan import Plan
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.summary import versions

PACKAGES = {"mlflow": "mlflow", "wandb": "wandb", "comet": "comet-ml"}  # by pip's names
MOST_POINTS = 1000  # that MLflow takes at a time


class RunLogger(Logger):
    """What the loggers share; the class that follows in the MRO is one of Lightning's."""

    _failed = False

    def begin(self, settings: dict[str, Any], tags: dict[str, str]) -> None:
        """Write what is known before training."""
        super().log_hyperparams({**settings, **tags})

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write scalars at a step."""
        self._attempt(super().log_metrics, metrics, step)

    def end(self, status: int) -> None:
        """Write how the run ended, by its exit status, and close it."""
        self._failed = False  # the service may be back, and MLflow gets what it missed
        state = {0: "FINISHED", FAILED: "FAILED"}.get(status, "KILLED")
        self._attempt(self._end, state, status)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: Lightning passes those of the model, which may be objects of any type."""

    def finalize(self, status: str) -> None:
        """Do nothing: Lightning calls it before the test."""

    def _attempt(self, action: Callable[..., None], *args: Any) -> None:
        try:
            if not self._failed:
                action(*args)
        except Exception as error:  # each service has its own
            self._failed = True
            name, reason = type(self).__name__.lstrip("_"), first_line(error)
            warnings.warn(f"{name}: nothing more is sent before the end ({reason})", stacklevel=3)

    def _end(self, state: str, status: int) -> None:
        raise NotImplementedError


class _MLflow(RunLogger, MLFlowLogger):
    """Send points only at checkpoints: one point takes as long as several training steps.

    MLflow never changes parameters, so settings that a resumed run changes become tags.
    """

    def begin(self, settings: dict[str, Any], tags: dict[str, str]) -> None:
        self._points: list[tuple[str, float, int, int]] = []  # tag, value, milliseconds, step
        data = self.experiment.get_run(self.run_id).data
        known, client = data.params, self.experiment
        # A run that was killed may have sent points that it computes again when it is resumed.
        sent = {tag: client.get_metric_history(self.run_id, tag) for tag in data.metrics}
        self._last = {tag: max(point.step for point in points) for tag, points in sent.items()}
        MLFlowLogger.log_hyperparams(self, {n: v for n, v in settings.items() if n not in known})
        changed = {n: str(v) for n, v in settings.items() if known.get(n, str(v)) != str(v)[:250]}
        for name, value in {**changed, **tags}.items():
            self.experiment.set_tag(self.run_id, name, value)
        self.experiment.update_run(self.run_id, status="RUNNING")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        now = int(1000 * time.time())
        for tag, value in metrics.items():
            allowed = re.sub(r"[^a-zA-Z0-9_/. -]", "", tag)
            if (step or 0) > self._last.get(allowed, -1):
                self._points.append((allowed, float(value), now, step or 0))

    def save(self) -> None:
        self._attempt(self._send)

    def _send(self) -> None:
        from mlflow.entities import Metric

        while points := self._points[:MOST_POINTS]:
            self.experiment.log_batch(self.run_id, [Metric(*point) for point in points])
            del self._points[:MOST_POINTS]

    def _end(self, state: str, status: int) -> None:
        self._send()
        MLFlowLogger.finalize(self, state)


class _WandB(RunLogger, WandbLogger):
    def _end(self, state: str, status: int) -> None:
        self.experiment.summary["state"] = state
        # W&B's own number for Ctrl-C is 255. The next run of this process is another one.
        self.experiment.finish(exit_code=255 if state == "KILLED" else status)


class _Comet(RunLogger, CometLogger):
    def _end(self, state: str, status: int) -> None:
        self.experiment.log_other("state", state)
        self.experiment.end()


def check_loggers(names: Sequence[str]) -> None:
    """Raise a UserError that says how to install a package if it is missing."""
    for name in names:
        if name not in PACKAGES:  # Lightning 2.6.6 only raises an error in its place
            raise UserError(f"--logger {name}: Neptune was shut down; choose {', '.join(PACKAGES)}")
        found = find_spec(PACKAGES[name].replace("-", "_"))
        if found is None or found.origin is None:  # a folder of W&B's, "wandb", is no package
            raise UserError(f"--logger {name}: not installed; pip install {PACKAGES[name]}")


def open_loggers(plan: Plan, folder: RunFolder, opened: list[RunLogger]) -> None:
    """Append the opened loggers of a run to a list, and write its settings, in the first process.

    Raises:
        UserError: One cannot be opened, for example because its server does not answer.
    """
    if rank_zero_only.rank != 0 or not plan.settings.logger:
        return
    ids = read_json(folder.loggers, {}) if folder.loggers.exists() else {}
    plain = str | int | float | None
    settings = {n: v if isinstance(v, plain) else str(v) for n, v in plan.as_config().items()}
    tags = {name: str(settings[name] or "") for name in ("model", "recipe", "note")}
    tags |= {"run_folder": str(folder.path.absolute()), **versions()}
    for name in plan.settings.logger:
        try:
            with FileLock(folder.log_dir / ".loggers.lock"):  # one process creates the database
                logger = _make(name, plan, folder, ids.get(name))
                logger.begin(settings, tags)
            opened.append(logger)
            ids[name] = logger.version
            write_json(folder.loggers, ids)
        except Exception as error:
            raise UserError(f"--logger {name}: {first_line(error)}") from error


def _make(name: str, plan: Plan, folder: RunFolder, known: str | None) -> RunLogger:
    """Return a logger, which continues the run with the id ``known`` if there is one."""
    title, settings = f"{folder.name}/{folder.version}", plan.settings
    if name == "mlflow":
        # MLflow 3 refuses a folder of files, which is Lightning's default.
        local = f"sqlite:///{folder.log_dir.absolute() / 'mlflow.db'}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", "cifar_lab")
        return _MLflow(project, title, uri, run_id=known)
    if name == "wandb":
        about: dict[str, Any] = {"project": os.environ.get("WANDB_PROJECT", "cifar_lab")}
        about["tags"] = sorted({str(n)[:64] for n in (settings.model, settings.recipe)})  # W&B's
        return _WandB(title, folder.log_dir, id=known, notes=settings.note, **about)
    project = os.environ.get("COMET_PROJECT_NAME", "cifar_lab")
    place = str(folder.log_dir)
    return _Comet(project=project, experiment_key=known, name=title, offline_directory=place)
