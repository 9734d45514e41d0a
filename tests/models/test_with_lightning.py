"""Models and data in Trainers of other people: every option and hook, plain loaders, Fabric."""

import inspect
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning_fabric import Fabric
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import (
    BasePredictionWriter,
    EarlyStopping,
    LearningRateMonitor,
    WeightAveraging,
)
from pytorch_lightning.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.tuner import Tuner
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from cifar_lab import CIFAR10DataModule
from cifar_lab.errors import UserError
from cifar_lab.models import MLP, REGISTRY, FastCNN, FastMLP, ImageClassifier, cnn
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
MODELS = pytest.mark.parametrize("name", REGISTRY)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Builds a small model of three classes by its name in the registry."""
    monkeypatch.setattr(cnn, "STAGES", ((4,), (4,), (4, 4), (4, 4), (4, 4)))

    def build(name: str) -> ImageClassifier:
        known = inspect.signature(REGISTRY[name]).parameters
        settings = {"hidden_units": [8], "widths": [8, 8], "width": 8, "blocks": 1, "components": 0}
        return REGISTRY[name](num_classes=3, **{k: settings[k] for k in settings if k in known})

    return build


# Options of the Trainer, and how many steps it then takes in two epochs of five batches.
OPTIONS: list[tuple[dict[str, Any], int]] = [
    ({"accelerator": "cpu", "devices": 1, "strategy": "auto", "num_nodes": 1}, 10),
    ({"fast_dev_run": True}, 1),
    ({"fast_dev_run": 2}, 2),
    ({"min_epochs": 1, "max_epochs": 1}, 5),
    ({"min_steps": 1, "max_steps": 3}, 3),
    ({"max_time": "00:01:00:00"}, 10),
    ({"limit_train_batches": 3}, 6),
    ({"limit_train_batches": 0.4}, 4),
    ({"limit_val_batches": 1, "limit_test_batches": 2, "limit_predict_batches": 3}, 10),
    ({"limit_val_batches": 0.5, "limit_test_batches": 0.3, "limit_predict_batches": 0.4}, 10),
    ({"overfit_batches": 2}, 4),
    ({"overfit_batches": 0.4}, 4),
    ({"val_check_interval": 2}, 10),
    ({"val_check_interval": 0.5}, 10),
    ({"val_check_interval": 3, "check_val_every_n_epoch": None}, 10),
    ({"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}, 10),
    ({"num_sanity_val_steps": -1}, 10),
    ({"log_every_n_steps": 2, "logger": CSVLogger("logs")}, 10),
    ({"enable_checkpointing": True, "default_root_dir": "logs"}, 10),
    ({"enable_progress_bar": True, "enable_model_summary": True}, 10),
    ({"enable_autolog_hparams": False}, 10),
    ({"accumulate_grad_batches": 2}, 6),
    ({"gradient_clip_val": 0.5}, 10),
    ({"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}, 10),
    ({"gradient_clip_val": 0.5, "precision": "bf16-mixed"}, 10),
    *(({"precision": kind}, 10) for kind in ("bf16-true", "16-true", "64-true")),
    ({"plugins": [MixedPrecision("bf16-mixed", "cpu")]}, 10),
    ({"deterministic": True, "benchmark": False}, 10),
    ({"inference_mode": False}, 10),
    ({"use_distributed_sampler": False, "sync_batchnorm": True}, 10),
    ({"profiler": "simple"}, 10),
    ({"detect_anomaly": True}, 10),
    ({"reload_dataloaders_every_n_epochs": 1}, 10),
    ({"barebones": True}, 10),
    (
        {"callbacks": [LearningRateMonitor(), EarlyStopping("loss/val")], "logger": CSVLogger("a")},
        10,
    ),
]
OTHERS = {"self", "model_registry"}  # needs a package of its own
# What a network in NumPy cannot do.
REFUSED = {"precision", "plugins", "gradient_clip_val", "accumulate_grad_batches"}


def test_every_option_of_the_trainer_is_tried() -> None:
    tried = {option for options, _ in OPTIONS for option in options}
    assert inspect.signature(Trainer.__init__).parameters.keys() == tried | OTHERS


class _Seen(Callback):
    """Keeps the images of each epoch."""

    def __init__(self) -> None:
        self.epochs: dict[int, list[bytes]] = defaultdict(list)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        images = args[2][0]
        self.epochs[trainer.current_epoch] += [image.numpy().tobytes() for image in images]


@pytest.mark.filterwarnings(
    "ignore:.*log_every_n_steps|Swapping|Checkpoint directory|Precision 16-"
)
@pytest.mark.parametrize(("options", "steps"), OPTIONS, ids=[" ".join(o) for o, _ in OPTIONS])
def test_every_model_works_with_an_option_of_the_trainer(
    options: dict[str, Any], steps: int, trainer, data, small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic=True sets it
    for name in REGISTRY:
        seen, given = _Seen(), data(val_size=20, eval_batch_size=8)
        callbacks = [*pickle.loads(pickle.dumps(options.get("callbacks", []))), seen]
        ours = trainer(**{"max_epochs": 2, **options, "callbacks": callbacks})
        with ours.init_module():  # in the dtype of the precision
            model = small(name)
        if name == "numpy_mlp" and REFUSED & options.keys():
            with pytest.raises((UserError, MisconfigurationException), match=r"NumPy|manual"):
                ours.fit(model, given)
            continue
        ours.fit(model, given)
        assert ours.global_step == steps, name
        for images in seen.epochs.values():
            assert len(set(images)) == len(images)
        if "overfit_batches" in options:
            assert seen.epochs[0] == seen.epochs[1]
        written = {"acc", "loss"} if not options.get("barebones") else set()
        for split, evaluate in (("val", ours.validate), ("test", ours.test)):
            (found,) = evaluate(model, given, verbose=False)
            assert found.keys() == {f"{metric}/{split}" for metric in written}, name
        sums = torch.cat(ours.predict(model, given)).sum(1)
        if options.get("precision") != "16-true":  # in which Adam divides by 0
            torch.testing.assert_close(sums, torch.ones(len(sums)))
    torch.use_deterministic_algorithms(False)


@MODELS
def test_every_hook_of_lightning_reaches_a_subclass(name: str, trainer, data, small) -> None:
    called: set[str] = set()

    def noting(kind: type, hooks: set[str]) -> type:
        def noted(hook: str) -> Any:
            def method(*args: Any, **kwargs: Any) -> Any:
                called.add(hook)
                return getattr(kind, hook)(*args, **kwargs)

            return method

        return type(kind.__name__, (kind,), {hook: noted(hook) for hook in hooks})

    def public(*kinds: type) -> set[str]:
        return {hook for kind in kinds for hook in vars(kind) if not hook.startswith("_")}

    of_models = public(ModelHooks, CheckpointHooks) - {"configure_sharded_model"}  # removed
    of_data = public(DataHooks)
    model, given = small(name), data(val_size=None)
    model.__class__ = noting(type(model), of_models)
    given.__class__ = noting(CIFAR10DataModule, of_data)
    ours = trainer(max_epochs=1)
    ours.fit(model, given)
    ours.save_checkpoint("a.ckpt")
    ours.fit(model, given, ckpt_path="a.ckpt", weights_only=True)
    for entry in (ours.validate, ours.test, ours.predict):
        entry(model, given)
    without_autograd = {"on_before_zero_grad", "on_before_backward", "on_after_backward"}
    unused = without_autograd if name == "numpy_mlp" else set()
    assert called == (of_models | of_data) - unused


@MODELS
def test_a_copy_of_another_process_is_the_same_model(name: str, small) -> None:
    model = small(name).eval()
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    state = torch.get_rng_state()
    copied = pickle.loads(pickle.dumps(model))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(copied(images), model(images))


@MODELS
def test_the_settings_that_a_logger_writes_can_be_read_by_anybody(name: str) -> None:
    model, logger = REGISTRY[name](), CSVLogger("logs")
    logger.log_hyperparams(model.hparams_initial)
    logger.save()
    found = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    assert found == {
        key: list(v) if isinstance(v, tuple) else v for key, v in model.hparams.items()
    }


@pytest.mark.parametrize("name", ["mlp", "deep_mlp", "fast_cnn"])
def test_a_compiled_model_is_not_compiled_again_at_every_step(
    name: str, trainer, data, small
) -> None:
    graphs = []

    class Count(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            graphs.append(counters["stats"]["unique_graphs"])

        on_validation_batch_end = on_train_batch_end

    torch._dynamo.reset()
    model = small(name)
    model.small_share = 0.0
    compiled = torch.compile(model, backend="eager")
    ours = trainer(max_epochs=2, callbacks=[Count()], num_sanity_val_steps=0)
    ours.fit(compiled, data(val_size=40, eval_batch_size=8))
    before = graphs[0] - 1
    assert graphs[-1] - before == 2  # a training step and a step of an evaluation
    assert len(graphs) == 2 * (4 + 5)


def test_loaders_work_without_their_data_module(trainer, data, monkeypatch) -> None:
    # Lightning advises to use worker processes where there are many cores.
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16), raising=False)
    given, model, ours = data(val_size=30), MLP(num_classes=3), trainer(max_epochs=1)
    given.setup()
    ours.fit(model, given.train_dataloader(), given.val_dataloader())
    assert ours.global_step == 4
    both = [given.val_dataloader(), given.test_dataloader()]
    for number, found in enumerate(ours.validate(model, both, verbose=False)):
        assert set(found) == {f"{metric}/val/dataloader_idx_{number}" for metric in ("acc", "loss")}
    alone = ours.validate(model, both[0], verbose=False)[0]["acc/val"]
    assert ours.validate(model, given, verbose=False)[0]["acc/val"] == alone


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfit_batches_fixes_the_batches_of_a_plain_loader_too(trainer, data) -> None:
    given, seen = data(augment=["flip", "crop"]), _Seen()
    given.setup()
    options = {"overfit_batches": 2, "max_epochs": 2, "callbacks": [seen]}
    trainer(**options).fit(MLP(num_classes=3), given.train_dataloader())
    assert seen.epochs[0] == seen.epochs[1]
    assert len(seen.epochs[0]) == 40


def test_predictions_can_be_written_with_the_positions_of_their_images(trainer, data) -> None:
    class Writer(BasePredictionWriter):
        positions: Any = None

        def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices) -> None:
            self.positions = batch_indices

    writer = Writer("epoch")
    trainer(callbacks=[writer]).predict(MLP(num_classes=3), data(eval_batch_size=30))
    assert writer.positions == [[[*range(30)], [*range(30, 45)]]]


def test_fabric_trains_a_model_on_a_loader(data) -> None:
    fabric, given = Fabric(accelerator="cpu"), data()
    given.setup()
    loader = fabric.setup_dataloaders(given.train_dataloader())
    model = fabric.setup(MLP(num_classes=3))
    optimizer = fabric.setup_optimizers(model.configure_optimizers())
    model.mark_forward_method("training_step")
    first = []
    for _epoch in range(2):
        for number, batch in enumerate(loader):
            first += [] if number else [batch[1].tolist()]
            optimizer.zero_grad()
            fabric.backward(model.training_step(batch, number)["loss"])
            optimizer.step()
    assert first[0] != first[1]  # another order


@MODELS
def test_lightning_finds_rates_and_batch_sizes(name: str, trainer, data, small) -> None:
    model, given = small(name), data()
    found = Tuner(trainer(max_epochs=9)).lr_find(model, given, num_training=30)
    assert model.lr == found.suggestion()
    size = Tuner(trainer(max_epochs=9)).scale_batch_size(model, given, max_trials=3)
    assert given.batch_size == size == 8


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


class _Batches(Callback):
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
    given: str, limit: float, length: dict[str, Any], trainer, data
) -> None:
    def train(path: str | None = None) -> list[tuple[int, int, int]]:
        source, seen = data(augment=["crop"]), _Batches()
        source.setup()
        model = _Planned() if given == "planned" else FastMLP(num_classes=3, **SMALL[FastMLP])
        if given == "loader":
            model.normalize.fill(*source.statistics(model.normalize.kind))
        ours = trainer(callbacks=[seen], limit_train_batches=limit, **length)
        ours.fit(model, source.train_dataloader() if given == "loader" else source, ckpt_path=path)
        return seen.batches

    whole = train()
    assert len({batch[2] for batch in whole}) == len(whole)  # or this would prove nothing
    for step in range(1, len(whole)):
        assert train(f"{step}.ckpt") == whole[step:], step
