"""A run that is no better than guessing is told so, with the likely reason."""

from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cifar_lab.models import MLP
from cifar_lab.training.learning import LearningCheck, is_guessing, likely_reason

BLIND, SEEING = torch.zeros(8, 3), torch.randn(8, 3)


@pytest.mark.parametrize(
    ("accuracy", "loss", "classes", "expected"),
    [
        (0.10, log(10), 10, True),
        (0.109, 2.35, 10, True),  # within the luck of 10,000 images, and the loss even worse
        (0.11, log(10), 10, False),
        (0.10, 2.25, 10, False),
        (0.5, log(2), 2, True),
        (0.012, log(100), 100, True),
    ],
)
def test_guessing_has_both_its_accuracy_and_its_loss(
    accuracy: float, loss: float, classes: int, expected: bool
) -> None:
    assert is_guessing(accuracy, loss, classes, count=10_000) is expected


@pytest.mark.parametrize(
    ("settings", "logits", "reason"),
    [
        ({"init": "report", "hidden_units": [4, 4]}, BLIND, "try --init pytorch"),
        ({"init": "report"}, BLIND, "units may be dead (try a smaller --lr), or its weights"),
        ({"hidden_units": [4, 4]}, BLIND, "units may be dead"),
        ({"init": "report", "hidden_units": [4, 4]}, SEEING, "another --lr, and check the labels"),
    ],
)
def test_the_reason_is_that_of_the_settings_and_the_outputs(settings, logits, reason) -> None:
    assert reason in likely_reason(MLP(num_classes=3, **settings), logits)


@pytest.mark.parametrize(("train_loss", "told"), [(2.3026, 1), (0.1, 0)])
def test_a_model_that_memorizes_learns_something(train_loss: float, told: int, capsys) -> None:
    metrics = {"acc/val": 0.1, "loss/val": 3.0, "loss/train": train_loss}
    steps = {"global_step": 500, "estimated_stepping_batches": 1000}
    trainer: Any = SimpleNamespace(callback_metrics=metrics, **steps)
    model: Any = SimpleNamespace(evaluated_split="val", num_classes=10, hparams={})
    check = LearningCheck("a run", count=1000)
    check.on_train_batch_end(trainer, model, {"logits": SEEING})
    for _ in range(2):
        check.on_validation_end(trainer, model)
    assert capsys.readouterr().err.count("warning: a run: step 500: ") == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--init", "report"),
            ["version_0: step 100: the model learns nothing. Its accuracy of 33.33 %"],
        ),
        ((), []),
        (("--max_steps", "99"), []),
    ],
)
def test_a_run_is_told_once_and_only_if_it_learns_nothing(call, tree: Path, words, told) -> None:
    given = {
        "--model": "numpy_mlp",
        "--hidden_units": "8,8",
        "--max_steps": 300,
        "--eval_every": 50,
    }
    given |= {"--data_dir": tree, "--val_size": 6, "--batch_size": 10, "--dashboard": "off"}
    given |= {"--lr": 1e-4}
    flags = [word for pair in given.items() for word in pair]
    status, out, err = call("fit", *flags, *words)
    assert status == 0, err
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(told)
    assert all(text in line for text, line in zip(told, warnings, strict=True))
    assert ("note    init pytorch, since" in out) == ("--init" not in words)
