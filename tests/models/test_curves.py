"""The training curves: means since the last point, times without evaluations, finite values."""

import time
from collections.abc import Callable
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.nn import functional as F

from cifar_lab.errors import UserError
from cifar_lab.models import MLP, FastMLP, meter
from cifar_lab.models.curves import Curves
from cifar_lab.models.meter import TrainingMeter

Fit = Callable[..., Trainer]
STEPS_A_EPOCH, POINTS = 6, [1, 4, 8, 12, 16, 18]


class _Recompute(Callback):
    """What each batch should count, from its images and the weights before it."""

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


class _At(Callback):
    """Calls a function of the Trainer and the model behind a step."""

    def __init__(self, step: int, function: Any) -> None:
        self.step, self.function = step, function

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            self.function(trainer, pl_module)


def test_a_point_is_the_mean_of_the_steps_since_the_one_before(fit: Fit, record: Any) -> None:
    watch = _Recompute()
    model = FastMLP(width=8, components=0, blocks=1, num_classes=3, lr=0.01, warmup=0.5)
    options = {"max_epochs": 3, "logger": record, "log_every_n_steps": 4, "callbacks": [watch]}
    trainer = fit(model, steps=-1, **options)
    assert [point["step"] for point in record.points] == POINTS
    assert len(set(watch.rates)) > 3  # they rise and fall
    rates = [*watch.rates, trainer.optimizers[0].param_groups[0]["lr"]]  # behind the last step
    before = 0
    for point in record.points:
        step = int(point["step"])
        assert point["loss/train"] == pytest.approx(fmean(watch.losses[before:step]), rel=1e-5)
        assert point["acc/train"] == pytest.approx(fmean(watch.right[before:step]), rel=1e-5)
        assert point["lr"] == pytest.approx(rates[step])
        assert point["epoch"] == (step - 1) // STEPS_A_EPOCH
        assert point["speed/images_per_second"] > 0
        before = step
    for name in ("loss/train", "acc/train", "lr", "speed/images_per_second"):
        assert trainer.callback_metrics[name].item() == pytest.approx(record.points[-1][name])


def test_the_loss_of_accumulated_batches_is_not_divided(fit: Fit, record: Any) -> None:
    watch = _Recompute()
    options = {"accumulate_grad_batches": 3, "log_every_n_steps": 1}
    fit(MLP(hidden_units=[8], num_classes=3), logger=record, callbacks=[watch], **options)
    expected = [fmean(watch.losses[first : first + 3]) for first in range(0, 12, 3)]
    assert [point["loss/train"] for point in record.points] == pytest.approx(expected, rel=1e-5)


def test_a_meter_counts_the_time_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    ours = TrainingMeter()
    ours.start()
    now.seconds = 2
    ours.stop()
    now.seconds = 102  # an evaluation
    ours.start()
    now.seconds = 105
    assert ours.seconds() == 5
    with ours.stopped():
        now.seconds = 115
    assert ours.seconds() == 5
    ours.clear()
    now.seconds = 117  # it runs on
    assert ours.seconds() == 2
    other = TrainingMeter()
    other.load(ours.sums(), ours.seconds())
    other.start()
    now.seconds = 120
    assert other.seconds() == 5


def test_a_meter_adds_up_losses_and_correct_answers() -> None:
    labels, ours = torch.tensor([0, 1, 2, 0]), TrainingMeter()
    ours.update(torch.tensor(0.5), torch.eye(3)[labels], labels)
    ours.update(torch.tensor(2.0), torch.eye(3)[labels[:2]], labels[1:3])
    assert ours.sums() == [4 * 0.5 + 2 * 2.0, 4, 6, 2]
    other = TrainingMeter()
    other.load(ours.sums(), 0.0)
    other.update(torch.tensor(float("nan")), torch.eye(3)[labels], labels)
    assert other.sums()[1:] == [8, 10, 2]


def test_a_meter_that_nobody_reads_keeps_a_limited_number_of_batches(monkeypatch) -> None:
    monkeypatch.setattr(meter, "KEPT_BATCHES", 3)
    ours = TrainingMeter()
    for loss in range(8):
        ours.update(torch.tensor(float(loss)), torch.eye(4), torch.tensor([0, 1, 2, 0]))
        assert len(ours._batches) < 3
    assert ours.sums() == [4 * 28, 24, 32, 8]


def test_evaluations_do_not_count_and_what_was_before_them_does(fit: Fit) -> None:
    class Slow(Callback):
        def on_train_batch_start(self, *given: Any) -> None:
            time.sleep(0.05)

        def on_validation_batch_start(self, *given: Any) -> None:
            time.sleep(0.5)

    curves = Curves()
    options = {"val_check_interval": 2, "limit_val_batches": 1.0, "num_sanity_val_steps": 0}
    options |= {"val_size": 12, "callbacks": [curves, Slow()]}
    start = time.perf_counter()
    fit(MLP(hidden_units=[8], num_classes=3), steps=6, **options)
    passed = time.perf_counter() - start
    assert 6 * 0.05 <= curves.overall_seconds <= passed - 2 * 0.5
    assert curves.overall_speed == pytest.approx(120 / curves.overall_seconds)


def test_a_trainer_has_the_callback_of_its_own_or_else_that_of_the_model(trainer, data) -> None:
    own = Curves(stop_if_not_finite=True)
    for given in ([own], []):
        ours, model = trainer(max_steps=1, callbacks=given), MLP(num_classes=3)
        ours.fit(model, data())
        ours.fit(model, data())
        (found,) = [one for one in ours.callbacks if isinstance(one, Curves)]
        assert (found is own) == bool(given)


def test_a_resumed_run_writes_the_points_of_one_that_was_not_interrupted(
    trainer, data, record: Any
) -> None:
    found = []
    for resumed in (False, True):
        torch.manual_seed(0)
        record.points = []
        save = _At(6, lambda trainer, model: trainer.save_checkpoint("made.ckpt"))
        options = {"logger": record, "log_every_n_steps": 4, "callbacks": [Curves(), save]}
        given = {"ckpt_path": "made.ckpt" if resumed else None, "weights_only": True}
        model = MLP(hidden_units=[8], num_classes=3)
        trainer(max_steps=10, limit_val_batches=0, **options).fit(model, data(), **given)
        assert all(point.pop("speed/images_per_second") > 0 for point in record.points)
        found.append(record.points)
    usual, ours = found
    assert [point["step"] for point in usual] == [1, 4, 8, 10]
    assert ours == usual[2:]


def test_a_test_with_a_checkpoint_leaves_the_time_of_the_training(fit: Fit, data) -> None:
    curves, model = Curves(), MLP(num_classes=3)
    save = _At(2, lambda trainer, model: trainer.save_checkpoint("made.ckpt"))
    trainer = fit(model, callbacks=[curves, save], log_every_n_steps=1)
    seconds = curves.overall_seconds
    assert seconds > 0
    trainer.test(model, data(), ckpt_path="made.ckpt", weights_only=True, verbose=False)
    assert curves.overall_seconds == seconds


def _process(rank: int, total: list[float]) -> Any:
    """A Trainer of one of two processes, whose strategy finds a total."""
    strategy = SimpleNamespace(
        root_device="cpu", reduce=lambda tensor, reduce_op: torch.tensor(total).double()
    )
    return SimpleNamespace(
        world_size=2,
        is_global_zero=rank == 0,
        strategy=strategy,
        state=SimpleNamespace(fn="fit"),
    )


def test_the_first_of_two_processes_goes_on_with_the_sums_of_both() -> None:
    total = [12.0, 3.0, 8.0, 4.0]
    states = []
    for rank in (0, 1):
        curves = Curves()
        curves.setup(_process(rank, total), MLP(), "fit")
        states.append(curves.state_dict())
        resumed = Curves()
        resumed.setup(_process(rank, total), MLP(), "fit")
        resumed.load_state_dict(states[-1])
        assert resumed.meter.sums() == ([0.0] * 4 if rank else total)
    assert states[0]["sums"] == states[1]["sums"] == total


def test_without_the_check_a_training_goes_on(fit: Fit) -> None:
    class Spoilt(MLP):
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            if self.global_step == 2:
                self.network[3].weight.register_hook(lambda gradient: gradient * float("inf"))
            return super().training_step(batch, batch_idx)

    trainer = fit(Spoilt(num_classes=3), steps=8, log_every_n_steps=1)
    assert trainer.global_step == 8
    assert trainer.callback_metrics["loss/train"].isnan()


def test_a_training_step_without_logits_is_refused_by_its_model_s_name(fit: Fit) -> None:
    class Own(MLP):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # type: ignore[override]
            return super().training_step(batch, batch_idx)["loss"]

    with pytest.raises(UserError, match=r"Own\.training_step: expected a dictionary with loss and"):
        fit(Own(num_classes=3))


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_that_is_skipped_counts_nothing(fit: Fit, record: Any) -> None:
    class Skipping(MLP):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) if batch_idx else None

    watch = _Recompute()
    options = {"logger": record, "callbacks": [watch], "log_every_n_steps": 1}
    fit(Skipping(num_classes=3), steps=3, **options)
    assert [point["loss/train"] for point in record.points] == pytest.approx(watch.losses[1:])
