"""Every model of the registry: its shape, its settings, and what Lightning can do with it."""

import inspect
from collections.abc import Callable
from itertools import pairwise
from math import sqrt
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F

from cifar_lab import CIFAR10DataModule
from cifar_lab.errors import UserError
from cifar_lab.layers.batch_norm import KINDS
from cifar_lab.models import (
    CNN,
    MLP,
    REGISTRY,
    BatchNormMLP,
    DeepMLP,
    FastCNN,
    FastMLP,
    ImageClassifier,
    NumpyMLP,
)
from cifar_lab.models.cnn import CNNNetwork
from cifar_lab.models.meter import TrainingMeter
from cifar_lab.models.mlp import MLPNetwork
from cifar_lab.optimizers.muon import Muon

MODELS = pytest.mark.parametrize("name", REGISTRY)
SMALL: dict[str, object] = {
    "hidden_units": [12, 8],
    "widths": [8, 8],
    "width": 8,
    "blocks": 2,
    "components": 0,
}
COMPUTED: dict[str, dict] = {"fast_mlp": {"components": 6}}  # computing them takes seconds


def _small(name: str, **settings) -> ImageClassifier:
    """A model of three classes, small where it can be."""
    known = inspect.signature(REGISTRY[name]).parameters
    small = {setting: value for setting, value in SMALL.items() if setting in known}
    if name == "numpy_mlp":  # weights of 0.0001 pass next to nothing through a second hidden layer
        small["hidden_units"] = [12]
    return REGISTRY[name](**{"num_classes": 3, **small, **settings})


@pytest.fixture
def fit(trainer, data) -> Callable[..., Trainer]:
    """Trains a model on the small tree, with evaluations of held-out images."""

    def run(model: ImageClassifier, given: CIFAR10DataModule | None = None, **options) -> Trainer:
        ours = trainer(**{"max_steps": 4, "log_every_n_steps": 1, **options})
        ours.fit(model, given or data(val_size=None))
        return ours

    return run


@MODELS
def test_training_lowers_the_loss(name: str, fit, data) -> None:
    seed_everything(0, verbose=False)
    model = _small(name, lr={"numpy_mlp": 1e-2, "fast_cnn": 0.1, "fast_mlp": 5e-3}.get(name, 1e-3))
    losses = []
    model.on_train_batch_end = lambda outputs, batch, batch_idx: losses.append(
        outputs["loss"].item()
    )
    trainer = fit(model, data(), max_steps=30, limit_val_batches=0)
    assert len(losses) == 30 == trainer.global_step
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@MODELS
def test_a_checkpoint_rebuilds_the_model_without_being_told_anything(
    name: str, fit, tree: Path
) -> None:
    model = _small(name, **COMPUTED.get(name, {}))
    fit(model).save_checkpoint("model.ckpt")
    content = torch.load("model.ckpt", weights_only=True)  # plain values and tensors only
    assert "numpy" not in repr(content["hyper_parameters"])
    assert str(tree) not in repr({k: v for k, v in content.items() if k != "state_dict"})
    loaded = REGISTRY[name].load_from_checkpoint("model.ckpt", weights_only=True)
    assert loaded.class_names == ("bird", "cat", "frog")
    computed = [layer.filled for layer in loaded.modules() if hasattr(layer, "filled")]
    assert computed
    assert all(computed)
    images = torch.randint(0, 256, (6, 3, 32, 32)).byte()
    torch.testing.assert_close(loaded.eval()(images), model.eval()(images), rtol=0, atol=0)


@MODELS
def test_the_same_seed_gives_the_same_weights_bit_for_bit(name: str, fit, data) -> None:
    def weights(seed: int) -> torch.Tensor:
        seed_everything(seed, verbose=False)
        model = _small(name, **COMPUTED.get(name, {}))
        fit(model, data(val_size=None, seed=seed, augment=["flip", "crop"]), max_steps=8)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first, again, other = weights(1), weights(1), weights(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@MODELS
def test_another_number_of_classes_is_refused_with_both(name: str, fit) -> None:
    with pytest.raises(UserError, match="the model has 10 classes, the data have 3"):
        fit(REGISTRY[name]())


@pytest.mark.parametrize("val_size", [0, 30])
def test_a_few_batches_of_an_evaluation_are_of_all_classes(val_size: int, fit, data) -> None:
    seen: list[set[int]] = []

    class Watched(MLP):
        def validation_step(self, batch, batch_idx):
            seen.append(set(batch[1].tolist()))
            return super().validation_step(batch, batch_idx)

    given = data(eval_batch_size=15, val_size=val_size)
    fit(Watched(num_classes=3), given, max_steps=1, limit_val_batches=1)
    assert seen == [{0, 1, 2}]


def test_barebones_works_and_reads_nothing_back_from_the_device(
    data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingMeter, "sums", lambda meter: pytest.fail("sums were read"))
    trainer = Trainer(accelerator="cpu", barebones=True, max_steps=3)
    trainer.fit(MLP(num_classes=3), data())
    assert trainer.global_step == 3


def test_a_trainer_that_logs_nothing_writes_no_training_curves(fit) -> None:
    logger = CSVLogger("logs")
    fit(MLP(num_classes=3), max_steps=-1, max_epochs=1, log_every_n_steps=0, logger=logger)
    written = (Path(logger.log_dir) / "metrics.csv").read_text()
    assert "acc/val" in written
    assert "loss/train" not in written


def test_evaluation_counts_every_image_once_and_predicts_in_order(fit, data) -> None:
    model, given = _small("mlp"), data(eval_batch_size=7)
    trainer = fit(model, given)
    (found,) = trainer.test(model, given, verbose=False)
    counted, loss = found["acc/test"], found["loss/test"]
    probabilities = torch.cat(trainer.predict(model, given))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(45))
    right = (probabilities.argmax(1).numpy() == given.image_set.test_labels).mean()
    assert counted == pytest.approx(right, abs=1e-6)
    expected = F.nll_loss(probabilities.log(), torch.from_numpy(given.image_set.test_labels))
    assert loss == pytest.approx(expected.item(), rel=1e-4)  # also of a smaller last batch


def test_the_loss_of_an_evaluation_is_a_mean_in_float32_also_in_bf16(trainer, data) -> None:
    given = data(eval_batch_size=1)  # 45 sums, of which bf16 would lose digits
    model, ours = _small("mlp"), trainer(precision="bf16-true")
    (found,) = ours.test(model, given, verbose=False)
    images, labels = given.image_set.test_images, given.image_set.test_labels
    with torch.no_grad():
        logits = model.bfloat16()(torch.from_numpy(images)).float()
    expected = F.cross_entropy(logits, torch.from_numpy(labels)).item()
    assert found["loss/test"] == pytest.approx(expected, rel=1e-3)


def test_a_monitor_of_lightning_can_follow_our_metrics(fit) -> None:
    seen = []

    class Noting(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if not trainer.sanity_checking:
                seen.append(trainer.callback_metrics["acc/val"].item())

    monitor = ModelCheckpoint("top", monitor="acc/val", mode="max", filename="top")
    options = {"callbacks": [Noting(), monitor], "enable_checkpointing": True}
    fit(_small("mlp"), max_epochs=4, max_steps=-1, **options)
    assert len(seen) == 4
    assert monitor.best_model_score == pytest.approx(max(seen))
    assert Path("top", "top.ckpt").exists()


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (MLP, {"hidden_units": [0]}, r"hidden_units \[0\]"),
        (MLP, {"init": "zero"}, "init 'zero': expected pytorch or report or he or report_first or"),
        (NumpyMLP, {"init": "zero"}, "init 'zero': expected auto or report or he or pytorch"),
        (BatchNormMLP, {"batchnorm": ""}, "batchnorm '': expected one of"),
        (MLP, {"lr": 0.0}, "lr 0.0"),
        (MLP, {"lr": float("nan")}, "lr nan"),
        (MLP, {"weight_decay": -1.0}, "weight_decay -1.0"),
        (FastMLP, {"optimizer": "muon"}, "weight_decay 0.5: with muon a share of the weights"),
        (MLP, {"optimizer": "sdg"}, "optimizer 'sdg'"),
        (MLP, {"normalization": "zca"}, "normalization 'zca': expected mean_image or standardize"),
        (DeepMLP, {"dropout": 1.0}, "dropout 1.0"),
        (FastCNN, {"optimizer": "adam"}, "optimizer 'adam': expected muon or sgd or adamw"),
        (FastCNN, {"label_smoothing": 1.0}, "label_smoothing 1.0"),
        (FastCNN, {"widths": [8, 0]}, r"widths \[8, 0\]"),
        (FastCNN, {"widths": [8] * 5}, "expected at most 4 blocks"),
        (FastCNN, {"small_size": 8}, "small_size 8: expected 9 to 32"),
        (MLP, {"num_classes": 1}, "num_classes 1: expected at least 2"),
        (FastCNN, {"small_size": 33}, "small_size 33"),
        (FastCNN, {"small_share": 1.5}, "small_share 1.5"),
        (FastCNN, {"bias_lr": 0.0}, "bias_lr 0.0"),
        (FastCNN, {"head_lr": -1.0}, "head_lr -1.0"),
        (FastCNN, {"momentum": 1.0}, "momentum 1.0"),
        (FastCNN, {"warmup": 1.0}, "warmup 1.0"),
        (FastMLP, {"components": 3073}, "components 3073"),
        (FastMLP, {"width": 0}, "width 0"),
        (FastMLP, {"blocks": -1}, "blocks -1"),
        (FastMLP, {"expansion": 0}, "expansion 0"),
        (FastMLP, {"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(model: type, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model(**settings)


def test_the_cnn_is_the_one_of_the_report() -> None:
    network = CNNNetwork(10)
    convolutions = [m for m in network if isinstance(m, nn.Conv2d)]
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == list(pairwise(channels))
    shapes = {(m.kernel_size, m.stride, m.padding) for m in convolutions}
    assert shapes == {((3, 3), (1, 1), (1, 1))}
    sizes, x = [], torch.zeros(1, 3, 32, 32)
    for layer in network:
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            assert (layer.kernel_size, layer.stride, layer.padding) == (3, 2, 1)
            sizes.append(x.shape[-1])
    assert sizes == [16, 8, 4, 2, 1]
    assert isinstance(network[-1], nn.Linear)


@pytest.mark.parametrize(
    ("init", "layers"),
    [("report", [1, 3]), ("he", [1, 3]), ("report_first", [1]), ("report_last", [3])],
)
def test_both_layers_or_one_alone_begin_as_the_init_says(init: str, layers: list[int]) -> None:
    torch.manual_seed(0)
    usual = MLP()
    for layer in layers:
        fan_in = usual.network[layer].in_features
        nn.init.normal_(usual.network[layer].weight, std=1e-4 if init != "he" else sqrt(2 / fan_in))
        nn.init.zeros_(usual.network[layer].bias)
    torch.manual_seed(0)
    ours = MLP(init=init)
    for name, value in usual.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


WEIGHT = "1.parametrizations.weight.original"
STATE = "2.weight 2.bias 2.running_mean 2.running_var 2.num_batches_tracked"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, "1.weight 1.bias 3.weight 3.bias"),
        ({"dropout": 0.5, "weight_norm": True}, f"1.bias {WEIGHT}0 {WEIGHT}1 4.weight 4.bias"),
        ({"batchnorm": "manual"}, f"1.weight {STATE} 4.weight 4.bias"),
    ],
)
def test_the_weights_of_an_mlp_have_the_names_of_earlier_checkpoints(
    options: dict, names: str
) -> None:
    assert sorted(MLPNetwork([8], 3, **options).state_dict()) == sorted(names.split())


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_of_batch_normalization_is_that_of_the_setting(kind: str) -> None:
    for model_class in (BatchNormMLP, CNN):
        model = model_class(batchnorm=kind)
        layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert {getattr(layer, "form", "native") for layer in layers} == {kind}
        model.load_state_dict(model_class(batchnorm="native").state_dict(), strict=True)


def test_a_checkpoint_names_a_class_of_somebody_else_with_its_module(fit) -> None:
    class Own(MLP):
        pass

    for model, name in ((MLP(num_classes=3), "MLP"), (Own(num_classes=3), f"{__name__}:")):
        fit(model, max_steps=1).save_checkpoint("model.ckpt")
        added = torch.load("model.ckpt", weights_only=True)["cifar_lab"]
        assert added["model"].startswith(name)
        assert added["model"].endswith(type(model).__qualname__)


def test_a_cnn_works_in_the_layout_that_is_fast() -> None:
    assert CNN().network[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["fast_cnn", "fast_mlp"])
def test_label_smoothing_is_of_training_alone(name: str, trainer, data) -> None:
    model, given = _small(name, label_smoothing=0.3).eval(), data()
    (found,) = trainer().validate(model, given, verbose=False)
    images, labels = next(iter(given.test_dataloader()))
    model.training_logits = model.forward  # type: ignore[method-assign]  # of whole images
    loss, logits = model.loss_and_logits(images, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.3))
    assert loss != F.cross_entropy(logits, labels)
    assert found["loss/test"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "numpy_mlp"])
def test_settings_of_the_optimizer_reach_it(name: str, fit) -> None:
    parameters = inspect.signature(REGISTRY[name]).parameters
    given = {"lr": 0.037, "weight_decay": 0.0125, "momentum": 0.625}
    model = _small(name, **{key: value for key, value in given.items() if key in parameters})
    (optimizer,) = fit(model, max_steps=1).optimizers
    first = optimizer.param_groups[0]
    assert first.get("initial_lr", first["lr"]) == 0.037
    if isinstance(optimizer, Muon):
        assert first["momentum"] == 0.625
        assert first["weight_decay"] == pytest.approx(0.0125 / 0.037)  # see FastClassifier
    elif "weight_decay" in parameters:
        assert first["weight_decay"] == 0.0125


@pytest.mark.parametrize("kind", [DeepMLP, FastMLP])
def test_dropout_is_that_of_the_setting(kind: type) -> None:
    model = kind(dropout=0.375)
    found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert found
    assert {module.p for module in found} == {0.375}
