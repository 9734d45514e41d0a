"""Loggers beside TensorBoard: what they get, and what is said where one is not installed."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities import rank_zero_only

from cifar_lab import fit as train
from cifar_lab.errors import StoppedEarly, TrainingEndedError
from cifar_lab.plan import Plan
from cifar_lab.run.folder import RunFolder
from cifar_lab.run.summary import Summary
from cifar_lab.training.checkpoints import Checkpoints
from cifar_lab.training.loggers import RunLogger, open_loggers

RUN = Path("logs/mlp/version_0")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mlflow", "not installed; pip install mlflow"),
        ("wandb", "not installed; pip install wandb"),
        ("comet", "not installed; pip install comet-ml"),
        ("neptune", "Neptune was shut down; choose mlflow, wandb, comet"),
    ],
)
def test_a_logger_that_is_not_there_is_refused_in_a_line_before_a_run_has_a_folder(
    run, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    for module in ("mlflow", "wandb", "comet_ml", "neptune"):
        monkeypatch.setitem(sys.modules, module, None)
    assert run("--logger", name) == (2, "", f"cifar-lab fit: --logger {name}: {told}\n")
    assert not Path("logs").exists()


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runs in the local MLflow of ``logs``, the oldest first, and the curve of a tag."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracking = pytest.importorskip("mlflow.tracking", reason="needs MLflow: pip install mlflow")

    def stored() -> Any:
        client = tracking.MlflowClient(f"sqlite:///{Path('logs/mlflow.db').absolute()}")
        (project,) = client.search_experiments(filter_string="name = 'cifar_lab'")
        runs = client.search_runs([project.experiment_id], order_by=["start_time"])
        return runs, lambda run, tag: client.get_metric_history(run.info.run_id, tag)

    return stored


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_gets_settings_curves_accuracies_and_the_end_of_runs(stored, tree: Path) -> None:
    given: dict[str, Any] = {"data_dir": tree, "log_dir": "logs", "dashboard": "off"}
    given |= {"batch_size": 20, "eval_every": 5, "log_every": 5, "logger": ["mlflow"]}
    done = train("mlp", max_steps=10, note="first", **given)
    train("mlp", resume=done.path, max_steps=20, note="longer")
    with pytest.raises(TrainingEndedError):
        train("mlp", max_steps=10, lr=1e20, **given)
    (first, failed), curve = stored()

    assert (first.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert first.info.run_id == json.loads((RUN / "loggers.json").read_text())["mlflow"]
    settings = {**done.plan.as_config(), "max_steps": 10, "note": "first"}
    assert first.data.params == {name: str(value) for name, value in settings.items()}
    tags = {"model": "mlp", "recipe": "mlp", "note": "longer", "max_steps": "20"}
    tags |= {"run_folder": str(RUN.absolute()), **done.summary["versions"]}
    assert tags.items() <= first.data.tags.items()
    for tag, (steps, values) in done.curves.items():
        points = [(point.step, point.value) for point in curve(first, tag)]
        # The test of the shorter run stays before that of the longer one.
        assert points[-len(steps) :] == list(zip(steps.tolist(), values.tolist(), strict=True)), tag
    assert first.data.metrics["hp/test_accuracy"] == done.accuracy


def _stop(error: type[BaseException]) -> Any:
    def stop(*args: object) -> None:
        raise error

    return stop


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_knows_interrupted_and_pruned_runs_and_gets_no_point_twice(
    stored, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"data_dir": tree, "log_dir": "logs", "dashboard": "off"}
    given |= {"batch_size": 20, "eval_every": 5, "max_steps": 10, "logger": ["mlflow"]}
    with monkeypatch.context() as patched:  # after the test
        patched.setattr(Summary, "write", _stop(KeyboardInterrupt))
        unfinished = train("mlp", **given)
    assert [run.info.status for run in stored()[0]] == ["KILLED"]
    done = train("mlp", resume=unfinished.path)
    monkeypatch.setattr(Checkpoints, "on_validation_end", _stop(StoppedEarly))
    with pytest.raises(StoppedEarly):
        train("mlp", **given)
    (first, pruned), curve = stored()
    assert (first.info.status, pruned.info.status) == ("FINISHED", "KILLED")
    for tag, (steps, _) in done.curves.items():
        assert [point.step for point in curve(first, tag)] == steps.tolist(), tag


class _Service(RunLogger, DummyLogger):
    """A logger that notes how a run ended, and does something when it gets scalars."""

    ended: ClassVar[list[str]] = []
    version = "7"

    def _end(self, state: str, status: int) -> None:
        self.ended.append(state)


def no_answer(*args: object) -> None:
    raise ConnectionError("no answer")


def ctrl_c(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("action", "status", "state", "lines"),
    [
        (no_answer, 0, "FINISHED", ["Service: nothing more is sent before the end (no answer)"]),
        (ctrl_c, 130, "KILLED", []),
    ],
)
@pytest.mark.filterwarnings("default")
def test_a_service_that_fails_does_not_end_a_run_and_is_told_how_it_ended(
    run, monkeypatch: pytest.MonkeyPatch, recwarn, action, status: int, state: str, lines: list[str]
) -> None:
    monkeypatch.setattr("cifar_lab.training.fit.check_loggers", lambda names: None)
    monkeypatch.setattr("cifar_lab.training.loggers._make", lambda *args: _Service())
    monkeypatch.setattr(DummyLogger, "log_metrics", action)
    monkeypatch.setattr(_Service, "ended", [])
    assert run("--logger", "comet", "--dashboard", "off")[0] == status
    assert _Service.ended == [state]
    assert [str(each.message) for each in recwarn if each.category is UserWarning] == lines
    assert json.loads((RUN / "loggers.json").read_text()) == {"comet": "7"}


def test_the_first_process_logs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    opened: list[RunLogger] = []
    open_loggers(Plan.of("mlp", logger="mlflow"), RunFolder.at(RUN), opened)
    assert opened == []
