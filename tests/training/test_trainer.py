"""The Trainer of a run, from its settings."""

from types import SimpleNamespace
from typing import Any

import pytest

from cifar_lab import devices
from cifar_lab.cli.fit import COMMAND
from cifar_lab.cli.parser import plan_of
from cifar_lab.errors import UserError
from cifar_lab.plan import Plan
from cifar_lab.training import trainer


def _plan(words: list[str]) -> Plan:
    return plan_of(COMMAND.parse(words)[1])


def test_several_processes_on_cpus_never_decide_the_precision_by_timings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_gains_from_bf16", lambda accelerator: True)
    for words, expected in (
        ("", "bf16-mixed"),
        ("--devices 1", "bf16-mixed"),
        ("--devices 2", "32-true"),
        ("--num_nodes 2", "32-true"),
        ("--devices 2 --precision bf16-mixed", "bf16-mixed"),
    ):
        settings = _plan(["--accelerator", "cpu", *words.split()]).settings
        assert trainer.hardware_of(settings, cpu_only=False) == ("cpu", expected)
    settings = _plan([]).settings
    assert trainer.hardware_of(settings, cpu_only=True) == ("cpu", "32-true")


def test_every_flag_of_the_hardware_and_for_a_trial_reaches_the_trainer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "Trainer", lambda **given: SimpleNamespace(global_rank=0, **given))
    words = "--accelerator cpu --devices 2 --num_nodes 3 --strategy ddp --precision 64-true"
    words += " --max_epochs 7 --eval_every 5 --accumulate_grad_batches 4 --log_every 6"
    words += " --gradient_clip_val 0.5 --deterministic --profiler simple --fast_dev_run"
    words += " --overfit_batches 2 --limit_train_batches 8 --limit_val_batches 0.75"
    found: Any = trainer.build_trainer(_plan(words.split()).settings, cpu_only=False)
    expected = {"accelerator": "cpu", "devices": 2, "num_nodes": 3, "strategy": "ddp"}
    expected |= {"precision": "64-true", "max_epochs": 7, "max_steps": -1}
    expected |= {"val_check_interval": 20, "accumulate_grad_batches": 4, "log_every_n_steps": 6}
    expected |= {"gradient_clip_val": 0.5, "deterministic": True, "profiler": "simple"}
    expected |= {"fast_dev_run": True, "overfit_batches": 2}
    expected |= {"limit_train_batches": 8, "limit_val_batches": 0.75}
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "wanted"), [("2", 2), ("0,1", [0, 1]), ("1,", [1]), ("auto", "auto")]
)
def test_devices_are_a_number_a_list_or_auto(text: str, wanted: object) -> None:
    assert trainer._devices(text) == wanted


@pytest.mark.parametrize("text", ["", ",", "one", "0,,1"])
def test_devices_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--devices {text}: expected a number, a list"):
        trainer._devices(text)
