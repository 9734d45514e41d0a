"""Models and data in Trainers of other people: plain loaders, other callbacks and limits."""

from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lab.errors import UserError
from cifar_lab.models import MLP, FastCNN, FastMLP
from cifar_lab.models.curves import Curves
from cifar_lab.models.fast import FastClassifier

# That a loader or a step of evaluation is missing, which these trainings do not need.
pytestmark = pytest.mark.filterwarnings("ignore:You (defined|passed in) a `val")
FAST = pytest.mark.parametrize("kind", [FastCNN, FastMLP])
SMALL: dict[type, dict[str, Any]] = {
    MLP: {"hidden_units": [8]},
    FastCNN: {"widths": [8, 8]},
    FastMLP: {"width": 8, "components": 0},  # computing them takes seconds
}


@pytest.mark.parametrize("kind", SMALL)
def test_weights_can_be_averaged(kind: type, fit) -> None:
    model = kind(num_classes=3, **SMALL[kind])
    fit(model, steps=3, callbacks=[WeightAveraging(device="cpu")])
    assert model.normalize.filled == 1
    assert torch.isfinite(model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))).all()


class _Foreign(LightningModule):
    """A model that knows nothing of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3072, 3)
        self.example_input_array = torch.zeros(2, 3, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def test_a_foreign_model_with_an_example_is_summarised_and_trained(trainer, data) -> None:
    ours = trainer(max_steps=2, enable_model_summary=True)
    ours.fit(_Foreign(), data(normalize=True))
    assert ours.global_step == 2


@FAST
def test_nothing_is_trained_behind_a_random_first_layer(
    kind: type[FastClassifier], trainer, data
) -> None:
    given = data()
    given.setup()
    computed = {} if kind is FastCNN else {"components": 6}
    model = kind(num_classes=3, **{**SMALL[kind], **computed})
    with pytest.raises(UserError, match="its first layer is computed from the training images"):
        trainer(max_steps=1).fit(model, given.train_dataloader())
    trained = {"whitening": False} if kind is FastCNN else {}
    ours = trainer(max_steps=1)
    ours.fit(kind(num_classes=3, **SMALL[kind], **trained), given.train_dataloader())
    assert ours.global_step == 1


@FAST
@pytest.mark.parametrize("limit", [{"max_time": {"minutes": 1}}, {"max_epochs": -1}])
def test_rates_without_a_known_end_are_refused(
    kind: type[FastClassifier], limit: dict[str, Any], fit
) -> None:
    with pytest.raises(UserError, match="give the Trainer max_steps or max_epochs"):
        fit(kind(num_classes=3, **SMALL[kind]), steps=-1, **limit)


class _Stop(Callback):
    """Ends a run after its third step."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == 3:
            raise RuntimeError("stopped")


def test_a_second_training_begins_with_empty_sums(fit, monkeypatch: pytest.MonkeyPatch) -> None:
    model, curves = MLP(num_classes=3), Curves()
    with pytest.raises(RuntimeError, match="stopped"):
        fit(model, steps=5, log_every_n_steps=50, callbacks=[curves, _Stop()])
    assert curves.meter.sums()[2] == 40  # of two steps behind the point of the first one
    counts, write = [], curves._write_point

    def watched(trainer: Trainer, epoch: int) -> None:
        counts.append(curves.meter.sums()[2])
        write(trainer, epoch)

    monkeypatch.setattr(curves, "_write_point", watched)
    fit(model, steps=5, log_every_n_steps=50, callbacks=[curves])
    assert counts == [20, 80]


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_the_last_point_of_a_run_that_ends_early_is_of_its_epoch(fit, record: Any) -> None:
    class End(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    options = {"log_every_n_steps": 50, "callbacks": [End()], "logger": record}
    trainer = fit(MLP(num_classes=3), steps=-1, max_epochs=9, **options)
    assert trainer.global_step == 12
    points = [(point["step"], point["epoch"]) for point in record.points if "epoch" in point]
    assert points == [(1, 0), (12, 1)]


class _Planned(_Foreign):
    """A foreign model that asks for the number of steps where Lightning's documentation does."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.float())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), 1e-6)


class _Seen(Callback):
    """Notes the batches of a training; one that is not resumed saves a checkpoint after each."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        _, _, (images, _), number = args
        self.batches.append((trainer.current_epoch, number, int(images.sum())))
        if trainer.ckpt_path is None:
            trainer.save_checkpoint(f"{trainer.global_step}.ckpt")


# Six batches an epoch. A loader alone is not told where a limit ends the epoch.
@pytest.mark.parametrize(
    ("given", "limit"),
    [("planned", 1.0), ("planned", 4), ("fast", 1.0), ("fast", 4), ("loader", 1.0)],
)
@pytest.mark.parametrize("length", [{"max_epochs": 3}, {"max_steps": 11}])
def test_a_resumed_training_draws_the_batches_that_are_left(
    given: str, limit: float, length: dict[str, Any], tree: Path
) -> None:
    def train(path: str | None = None) -> list[tuple[int, int, int]]:
        data, seen = _data(tree, augment=["crop"]), _Seen()
        data.setup()
        model = _Planned() if given == "planned" else FastMLP(num_classes=3, **SMALL[FastMLP])
        if given == "loader":
            model.normalize.fill(*data.statistics(model.normalize.kind))
        trainer = _trainer(callbacks=[seen], limit_train_batches=limit, **length)
        trainer.fit(model, data.train_dataloader() if given == "loader" else data, ckpt_path=path)
        return seen.batches

    whole = train()
    assert len({batch[2] for batch in whole}) == len(whole)  # or this would prove nothing
    for step in range(1, len(whole)):
        assert train(f"{step}.ckpt") == whole[step:], step
