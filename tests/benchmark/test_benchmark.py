"""The benchmark: its contenders train the same, its sections measure, its command prints."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cifar_lab.benchmark import contenders, drift, peak, sections
from cifar_lab.benchmark.command import main
from cifar_lab.benchmark.contenders import Setting
from cifar_lab.training.fit import build_model

FORMS = ("manual", "composed")


@pytest.fixture
def flags(write_tree: Callable[..., Path]) -> list[str]:
    """Data of 300 training images, on the CPU."""
    return ["--data_dir", str(write_tree(train=100)), "--accelerator", "cpu"]


def test_every_contender_trains_the_steps_and_gives_their_time(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda *args, **kw: steps.append(1) or step(*args, **kw)
    )
    setting = Setting("mlp", 7, flags)
    for run in (
        lambda: contenders.plain(setting),
        lambda: contenders.ours(setting, tmp_path / "ours"),
        lambda: contenders.lightning(setting, tmp_path / "lightning", 0),
    ):
        steps.clear()
        assert 0 < run() < 60
        assert len(steps) == 7
    assert (tmp_path / "ours/mlp/version_0/summary.json").exists()  # with all that a user gets


def test_the_contenders_start_from_the_same_weights(flags: list[str]) -> None:
    setting = Setting("mlp", 1, flags)
    first, second = setting.model().state_dict(), setting.model().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["normalize.filled"]


def test_the_plain_loop_has_the_dropout_of_pytorch(flags: list[str]) -> None:
    model = Setting("deep_mlp", 1, flags).model()
    kinds = {type(m) for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    assert kinds == {torch.nn.Dropout}


@pytest.mark.parametrize("name", ["mlp", "batchnorm_mlp", "fast_mlp"])
def test_the_plain_loop_has_the_linear_layers_of_pytorch(name: str, flags: list[str]) -> None:
    setting = Setting(name, 1, [*flags, "--batch_size", "32"])
    ours, plain = build_model(setting.plan, setting.data), setting.model()
    kinds = {type(m) for m in plain.network.modules() if isinstance(m, torch.nn.Linear)}
    assert kinds == {torch.nn.Linear}
    assert ours.network.state_dict().keys() == plain.network.state_dict().keys()


def test_the_tutorial_loop_sees_standardised_images(flags: list[str]) -> None:
    data = contenders._Images(Setting("mlp", 1, flags).data)
    images = torch.stack([data[index][0] for index in range(len(data))])
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_the_flops_of_an_mlp_are_counted_right(flags: list[str]) -> None:
    first, second = 3072 * 100, 100 * 3  # three classes
    products = 2 * (first + second) + second  # forward, weights' gradients, inputs' of the second
    assert sections.flops_of_a_step(Setting("mlp", 1, flags)) == 2 * 200 * products


def test_the_whole_command_on_small_data(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sections, "QUICK_STEPS", {"deep_mlp": 1})
    monkeypatch.setattr(sections, "BATCH_NORM_SHAPES", ((4, 8, 2, 2), (200, 64)))
    monkeypatch.setattr(peak, "MATRIX_SIZE", 256)
    words = ["--quick", "--rounds", "2", "--output", "found/bench.json", "--json", *flags]
    assert main(words) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found == json.loads(Path("found/bench.json").read_text())
    training = found["training"]["deep_mlp"]
    assert set(training["seconds_a_step"]) == {"plain", "ours"}
    assert training["ratio_to_plain"]["ours"]["median"] > 0
    assert set(found["batch_normalization"]) == {"4×8×2×2", "200×64"}
    assert found["loader"]["none"]["images_per_second"] > 1000
    assert found["arithmetic"]["models"]["deep_mlp"]["gflop_a_step"] == pytest.approx(
        6 * 200 * 9.8e6 / 1e9, rel=0.2
    )
    assert found["start_up"]["peak_memory_mb"] > 100
    for title in ("Training", "Batch normalization", "The loader", "Arithmetic", "Start-up"):
        assert title in captured.err


def test_the_drift_is_measured_from_the_same_weights_and_batches(flags: list[str]) -> None:
    found = drift.measure([*flags, "--batch_size", "140"], steps=3)  # two batches an epoch
    assert found["batchnorm_mlp float64"]["batch_size"] == 140
    assert all(found["batchnorm_mlp float64"][form]["largest"] < 1e-12 for form in FORMS)
    assert all(found["cnn float64"][form]["largest"] < 1e-9 for form in FORMS)
    assert all(found["cnn float32"][form]["first"] < 1e-5 for form in FORMS)
    assert found["cnn float32"]["composed"]["last"] > 0  # it is another arithmetic


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "trainnig"], "did you mean training"),
        (["--only", "arithmetic"], "needs the section training"),
        (["--rounds", "0"], "positive integer"),
        (["--data_dir", "nowhere"], "nowhere: no such folder"),
        (["--source", "synthetic", "--precision", "64-true"], "--precision 64-true: expected auto"),
        (["--source", "synthetic", "--only", "drift", "--output", "."], "--output .: not a file"),
    ],
)
def test_wrong_input(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_the_memory_of_a_run_is_its_own() -> None:
    held = np.ones(10**8)  # 800 MB of this process
    seconds, megabytes = sections._run([sys.executable, "-c", "held = b'x' * 10**8"])
    assert held.all()
    assert 95 < megabytes < 400
    assert seconds > 0
