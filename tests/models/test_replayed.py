"""A model whose training step is replayed trains as it does otherwise."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from cifar_lab.models import FastCNN, FastMLP, replayed
from cifar_lab.models.fast import FastClassifier

SMALL = {
    FastCNN: {"widths": [8, 8], "small_size": 20, "small_share": 0.5},
    FastMLP: {"width": 8, "components": 6},
}


class _Unrecorded:
    """A StepGraph that takes every step anew."""

    made: ClassVar[list["_Unrecorded"]] = []

    def __init__(self, step: Callable[..., Any], optimizer: Any) -> None:
        self._step = step
        self.made.append(self)

    def __call__(self, images: Any, labels: Any) -> Any:
        return self._step(images, labels)


class _Watch(Callback):
    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.norms.append(sum(g.norm().item() for g in pl_module.gradients().values()))


def _train(fit: Callable[..., Trainer], kind: type[FastClassifier]) -> tuple[Any, list[float]]:
    torch.manual_seed(0)
    model = kind(num_classes=3, **SMALL[kind])  # type: ignore[arg-type]
    watch = _Watch()
    model.configure_callbacks = lambda: [watch]  # type: ignore[method-assign]
    fit(model, steps=6)
    return model, watch.norms


@pytest.mark.parametrize("kind", [FastCNN, FastMLP])
def test_the_whole_step_is_what_lightning_does(
    fit, monkeypatch: pytest.MonkeyPatch, kind: type[FastClassifier]
) -> None:
    usual, norms = _train(fit, kind)
    monkeypatch.setattr(replayed, "StepGraph", _Unrecorded)
    monkeypatch.setattr(FastClassifier, "replays", True)
    monkeypatch.setattr(_Unrecorded, "made", [])
    ours, seen = _train(fit, kind)
    assert seen == norms
    assert len(norms) == 6
    for name, value in usual.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert ours.meter.overall_speed > 0
    assert len(_Unrecorded.made) == (2 if kind is FastCNN else 1)  # small images, then whole ones


def test_there_is_nothing_to_replay_on_the_cpu(fit) -> None:
    model = FastMLP(num_classes=3, **SMALL[FastMLP])  # type: ignore[arg-type]
    fit(model)
    assert model.cuda_graphs
    assert not model._replaying


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", [FastCNN, FastMLP])
def test_a_gpu_replays_what_it_would_compute(
    tree, kind: type[FastClassifier], precision: Any
) -> None:
    from cifar_lab import CIFAR10DataModule

    found = []
    for graphs in (False, True):
        torch.manual_seed(0)
        model = kind(num_classes=3, cuda_graphs=graphs, **SMALL[kind])  # type: ignore[arg-type]
        trainer = Trainer(
            accelerator="gpu",
            devices=1,
            precision=precision,
            deterministic=True,
            max_steps=12,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(model, CIFAR10DataModule(tree, batch_size=20, val_size=0))
        assert model._replaying == graphs
        found.append({name: value.cpu() for name, value in model.state_dict().items()})
    usual, ours = found
    for name, value in usual.items():
        tolerance = 1e-4 if precision == "32-true" else 0.05
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance)
