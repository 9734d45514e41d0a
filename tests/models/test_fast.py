"""A model whose training step is replayed trains as it does otherwise."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.strategies import SingleDeviceStrategy

from cifar_lab.models import FastCNN, FastMLP, fast
from cifar_lab.models.curves import Curves
from cifar_lab.models.fast import FastClassifier
from cifar_lab.models.step_graph import StepGraph

SMALL = {
    FastCNN: {"widths": [8, 8], "small_size": 20, "small_share": 0.5},
    FastMLP: {"width": 8, "components": 0},
}


class _Unrecorded(StepGraph):
    """A StepGraph that takes every step anew."""

    made: ClassVar[list["_Unrecorded"]] = []

    def __init__(self, step: Callable[..., Any], optimizer: Any) -> None:
        self._step = step
        self.made.append(self)

    def __call__(self, images: Any, labels: Any) -> Any:
        return self._step(images, labels)


def _replay_unrecorded(monkeypatch: pytest.MonkeyPatch, can_replay: Any) -> None:
    monkeypatch.setattr(fast, "StepGraph", _Unrecorded)
    monkeypatch.setattr(_Unrecorded, "made", [])
    monkeypatch.setattr(FastClassifier, "can_replay", can_replay)


class _Watch(Callback):
    def __init__(self) -> None:
        self.norms: list[float] = []
        self.replayed: list[bool] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.replayed.append(pl_module.replays_step)
        self.norms.append(sum(g.norm().item() for g in pl_module.gradients().values()))


def _train(fit: Callable[..., Trainer], kind: type[FastClassifier]) -> tuple[Any, list[float]]:
    torch.manual_seed(0)
    model = kind(num_classes=3, **SMALL[kind])  # type: ignore[arg-type]
    watch = _Watch()
    trainer = fit(model, steps=6, callbacks=[watch])
    (curves,) = [one for one in trainer.callbacks if isinstance(one, Curves)]
    assert curves.overall_speed > 0
    return model, watch.norms


@pytest.mark.parametrize("kind", [FastCNN, FastMLP])
def test_the_whole_step_is_what_lightning_does(
    fit, monkeypatch: pytest.MonkeyPatch, kind: type[FastClassifier]
) -> None:
    usual, norms = _train(fit, kind)
    _replay_unrecorded(monkeypatch, True)
    ours, seen = _train(fit, kind)
    assert seen == norms
    assert len(norms) == 6
    for name, value in usual.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert len(_Unrecorded.made) == (2 if kind is FastCNN else 1)  # small images, then whole ones


def test_a_second_training_is_recorded_anew_even_if_the_first_one_broke_off(
    fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    _replay_unrecorded(monkeypatch, True)
    model = FastMLP(num_classes=3, **SMALL[FastMLP])  # type: ignore[arg-type]

    class Stop(Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fit(model, callbacks=[Stop()])
    assert model._graph is not None
    assert copy.deepcopy(model)._graph is None  # a graph cannot be copied
    fit(model)
    assert len(_Unrecorded.made) == 2
    assert model._graph is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"accumulate_grad_batches": 2}, False),
        ({"gradient_clip_val": 1.0}, False),
        ({"precision": "16-mixed"}, False),
        ({"strategy": object()}, False),
        ({"cuda_graphs": False}, False),
        ({"device": torch.device("cpu")}, False),
        ({"anomalies": True}, False),
        ({"configure_gradient_clipping": lambda *given: None}, False),
    ],
    ids=lambda value: next(iter(value), "as it is") if isinstance(value, dict) else "",
)
def test_what_a_graph_cannot_do_is_not_replayed(
    change: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: dict[str, Any] = {"accumulate_grad_batches": 1, "gradient_clip_val": None}
    facts |= {"precision": "bf16-mixed", "strategy": SingleDeviceStrategy(device="cpu")}
    facts |= {"device": torch.device("cuda"), "anomalies": False, **change}
    given = {name: facts.pop(name) for name in {"cuda_graphs"} & facts.keys()}  # usually not given

    class Model(FastMLP):
        trainer = SimpleNamespace(**facts)

    for name in {"configure_gradient_clipping", "device"} & facts.keys():
        monkeypatch.setattr(Model, name, facts[name])
    model = Model(num_classes=3, **given, **SMALL[FastMLP])  # type: ignore[arg-type]
    with torch.autograd.set_detect_anomaly(facts["anomalies"]):
        assert model.can_replay is expected


def test_a_trainer_that_changes_its_mind_is_followed(fit, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FastMLP(num_classes=3, **SMALL[FastMLP])  # type: ignore[arg-type]
    watch = _Watch()
    _replay_unrecorded(monkeypatch, property(lambda self: self.global_step < 2))
    fit(model, callbacks=[watch])
    assert watch.replayed == [True, True, False, False]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", [FastCNN, FastMLP])
def test_a_gpu_replays_what_it_would_compute(
    fit, kind: type[FastClassifier], precision: str
) -> None:
    found = []
    options = {"accelerator": "gpu", "devices": 1, "precision": precision, "deterministic": True}
    evaluations = {"val_check_interval": 6, "check_val_every_n_epoch": None, "limit_val_batches": 1}
    for graphs in (False, True):
        torch.manual_seed(0)
        model = kind(num_classes=3, cuda_graphs=graphs, **SMALL[kind])  # type: ignore[arg-type]
        watch = _Watch()
        start = {name: value.clone() for name, value in model.state_dict().items()}
        fit(model, steps=12, callbacks=[watch], **options, **evaluations)
        assert watch.replayed == [graphs] * 12
        assert min(watch.norms) > 0  # also after the evaluation
        found.append({name: value.cpu() for name, value in model.state_dict().items()})
    usual, ours = found
    tolerance = 1e-3 if precision == "32-true" else 0.1  # of the way that a tensor went
    for name, value in usual.items():
        if not value.is_floating_point():  # whether a layer was filled
            assert torch.equal(ours[name], value), name
            continue
        way = (value - start[name]).double().norm()
        assert (ours[name] - value).double().norm() <= tolerance * way, name
    assert any(not torch.equal(value, start[name]) for name, value in ours.items())
