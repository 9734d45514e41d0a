"""The numbers of the training curves: means since the last point, times without evaluations."""

import csv
import time
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.nn import functional as F

from cifar_lab import CIFAR10DataModule
from cifar_lab.dashboards.metrics_csv import MetricsCSV
from cifar_lab.models import MLP, FastMLP, meter
from cifar_lab.models.meter import TrainingMeter

STEPS_A_EPOCH, POINTS = 6, [1, 4, 8, 12, 16, 18]


class _Recompute(Callback):
    """What each step should count, from its batch and the weights before it."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.right: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        images, labels = batch
        with torch.no_grad():
            logits = pl_module(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=pl_module.label_smoothing)
        self.losses.append(loss.item())
        self.right.append((logits.argmax(1) == labels).float().mean().item())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def _trainer(**options: Any) -> Trainer:
    quiet = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return Trainer(accelerator="cpu", precision="32-true", **dict.fromkeys(quiet, False), **options)


def test_a_point_is_the_mean_of_the_steps_since_the_one_before(tree: Path) -> None:
    watch = _Recompute()
    model = FastMLP(width=8, components=6, blocks=1, num_classes=3, lr=0.01, warmup=0.5)
    trainer = _trainer(
        max_epochs=3,
        logger=MetricsCSV(Path("metrics.csv")),
        log_every_n_steps=4,
        callbacks=[watch],
        limit_val_batches=0,
    )
    trainer.fit(model, CIFAR10DataModule(tree, batch_size=20, val_size=0))
    with Path("metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == POINTS
    assert len(set(watch.rates)) > 3  # they rise and fall
    rates = [*watch.rates, trainer.optimizers[0].param_groups[0]["lr"]]  # behind the last step
    before = 0
    for row in rows:
        step = int(row["step"])
        assert float(row["loss/train"]) == pytest.approx(fmean(watch.losses[before:step]), rel=1e-5)
        assert float(row["acc/train"]) == pytest.approx(fmean(watch.right[before:step]), rel=1e-5)
        assert float(row["lr"]) == pytest.approx(rates[step])
        assert float(row["epoch"]) == (step - 1) // STEPS_A_EPOCH
        assert float(row["speed/images_per_second"]) > 0
        before = step


def test_a_meter_counts_the_time_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    labels = torch.tensor([0, 1, 2, 0])
    ours = TrainingMeter()
    ours.start()
    now.seconds = 2
    ours.update(torch.tensor(0.5), torch.eye(3)[labels], labels)
    ours.stop()
    now.seconds = 102  # an evaluation
    ours.start()
    now.seconds = 105
    ours.update(torch.tensor(2.0), torch.eye(3)[labels[:2]], labels[1:3])
    found = ours.read(ours.sums())
    assert found["loss/train"] == (4 * 0.5 + 2 * 2.0) / 6
    assert found["acc/train"] == pytest.approx(4 / 6)
    assert found["speed/images_per_second"] == 6 / 5
    assert (ours.overall_seconds, ours.overall_speed) == (5, 6 / 5)
    now.seconds = 107  # it runs on behind a reading
    state = ours.state_dict(ours.sums())
    other = TrainingMeter()
    other.load_state_dict(state, empty=False)
    other.start()
    now.seconds = 110
    other.update(torch.tensor(1.0), torch.eye(3)[labels], labels)
    assert other.read(other.sums())["speed/images_per_second"] == 4 / 5
    assert (other.overall_seconds, other.overall_speed) == (10, 1)


def test_evaluations_do_not_count_and_what_was_before_them_does(tree: Path) -> None:
    class Slow(Callback):
        def on_train_batch_start(self, *given: Any) -> None:
            time.sleep(0.05)

        def on_validation_batch_start(self, *given: Any) -> None:
            time.sleep(0.5)

    model = MLP(hidden_units=[8], num_classes=3)
    trainer = _trainer(max_steps=6, logger=False, val_check_interval=2, callbacks=[Slow()])
    trainer.num_sanity_val_steps = 0
    start = time.perf_counter()
    trainer.fit(model, CIFAR10DataModule(tree, batch_size=20, val_size=12))
    passed = time.perf_counter() - start
    assert 6 * 0.05 <= model.meter.overall_seconds <= passed - 2 * 0.5
