"""The benchmark: its contenders train the same, its sections measure, its command prints."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import benchmark
import contenders
import sections
import soak
from cifar_lab.experiments import peak
from cifar_lab.training.fit import build_model
from contenders import Setting


@pytest.fixture
def given(write_tree: Callable[..., Path]) -> dict[str, str]:
    """Settings: data of 300 training images, on the CPU."""
    return {"data_dir": str(write_tree(train=100)), "accelerator": "cpu"}


@pytest.fixture
def setting(given: dict[str, str]) -> Setting:
    return Setting("mlp", 7, given)


@pytest.mark.parametrize("name", ["plain", "ours", "lightning"])
def test_every_contender_trains_the_steps_and_returns_the_time(name, setting, monkeypatch) -> None:
    steps, step = [], torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda *args, **kw: steps.append(1) or step(*args, **kw)
    )
    given = {"plain": (), "ours": (Path("runs"),), "lightning": (Path("runs"), 0)}[name]
    assert 0 < getattr(contenders, name)(setting, *given) < 60
    assert len(steps) == 7
    if name == "ours":  # a whole run, with the dashboard
        run = Path("runs/mlp/version_0")
        assert (run / "checkpoints" / "last.ckpt").exists()
        assert list(run.glob("events.*"))


def test_the_time_of_the_tutorial_holds_its_checkpoint(setting: Setting, monkeypatch) -> None:
    ended, end = [], contenders.Timer.on_train_end

    def note(*args: Any) -> None:
        ended.append(len(list(Path("runs").rglob("*.ckpt"))))
        end(*args)

    monkeypatch.setattr(contenders.Timer, "on_train_end", note)
    contenders.lightning(setting, Path("runs"), 0)
    assert ended == [1]


def test_the_contenders_start_from_the_same_weights(setting: Setting) -> None:
    first, second = setting.model().state_dict(), setting.model().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["normalize.filled"]


@pytest.mark.parametrize("name", ["mlp", "deep_mlp", "batchnorm_mlp", "fast_mlp"])
def test_the_plain_loop_has_the_layers_of_pytorch(name: str, given: dict[str, str]) -> None:
    setting = Setting(name, 1, {**given, "batch_size": "32"})
    ours, plain = (
        build_model(setting.plan, setting.data.num_classes).network,
        setting.model().network,
    )
    for kind in (torch.nn.Linear, torch.nn.Dropout):
        # ``weight_norm`` makes a class of its own for each layer, of the layer's name.
        names = {type(m).__name__ for m in plain.modules() if isinstance(m, kind)}
        assert names <= {kind.__name__, f"Parametrized{kind.__name__}"}
    assert ours.state_dict().keys() == plain.state_dict().keys()


def test_the_tutorial_loop_sees_standardised_images(setting: Setting) -> None:
    data = contenders._Images(setting.data)
    images = torch.stack([data[index][0] for index in range(len(data))])
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_the_flops_of_an_mlp_are_counted_right(setting: Setting) -> None:
    first, second = 3072 * 100, 100 * 3  # three classes
    products = 2 * (first + second) + second  # forward, weights' gradients, inputs' of the second
    assert sections.flops_of_a_step(setting) == 2 * 200 * products


@pytest.mark.slow
def test_the_drift_is_measured_from_the_same_weights_and_batches(write_tree, monkeypatch) -> None:
    monkeypatch.setattr(sections, "DRIFT_SETTINGS", {("cnn", torch.float64): {"batch_size": 4}})
    given = {"data_dir": write_tree(train=20), "accelerator": "cpu", "batch_size": "28"}
    found = sections.drift(given, steps=3)  # two batches an epoch
    assert found["batchnorm_mlp float64"]["batch_size"] == 28
    assert found["cnn float64"]["batch_size"] == 4
    for form in ("manual", "composed"):
        assert found["batchnorm_mlp float64"][form]["largest"] < 1e-12
        assert found["cnn float64"][form]["largest"] < 1e-9
        assert found["cnn float32"][form]["first"] < 1e-5
    assert found["cnn float32"]["composed"]["last"] > 0  # it is another arithmetic


@pytest.mark.slow
def test_the_whole_command_on_small_data(given: dict[str, str], monkeypatch, capsys) -> None:
    monkeypatch.setattr(sections, "QUICK_STEPS", {"deep_mlp": 1})
    monkeypatch.setattr(sections, "BATCH_NORM_SHAPES", ((4, 8, 2, 2), (200, 64)))
    monkeypatch.setattr(peak, "MATRIX_SIZE", 256)
    words = ["--quick", "--rounds", "2", "--output", "found/bench.json", "--json"]
    assert benchmark.main([*words, *(f"--{name}={value}" for name, value in given.items())]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found == json.loads(Path("found/bench.json").read_text())
    training = found["training"]["deep_mlp"]
    assert set(training["seconds_a_step"]) == {"plain", "ours"}
    assert training["ratio_to_plain"]["ours"]["median"] > 0
    assert set(found["batch_normalization"]) == {"4×8×2×2", "200×64"}
    assert found["loader"]["none"]["images_per_second"] > 1000
    gflop = found["arithmetic"]["models"]["deep_mlp"]["gflop_a_step"]
    assert gflop == pytest.approx(6 * 200 * 9.8e6 / 1e9, rel=0.2)
    assert found["start_up"]["peak_memory_mb"] > 100
    for title in ("Training", "Batch normalization", "The loader", "Arithmetic", "Start-up"):
        assert title in err


@pytest.mark.parametrize(
    ("program", "words", "said"),
    [
        (benchmark, "--only trainnig", "did you mean training"),
        (benchmark, "--only arithmetic", "needs the section training"),
        (benchmark, "--rounds 0", "--rounds 0: expected a positive integer"),
        (benchmark, "--roundes 1", "did you mean --rounds"),
        (benchmark, "--data_dir nowhere", "nowhere: no such folder"),
        (benchmark, "--source synthetic --precision 64-true", "--precision 64-true: expected auto"),
        (benchmark, "--source synthetic --only drift --output .", "--output .: not a file"),
        (soak, "--output a_file/x", "--output a_file/x: cannot be written"),
        (soak, "--flags 'open", "--flags 'open: "),
        (soak, "--kills 0", "positive integer"),
        (soak, "--modell mlp", "did you mean --model"),
        (soak, "--model mpl", "--model mpl: unknown; did you mean mlp?"),
        (soak, "--modes one,too", "--modes too: unknown"),
    ],
)
def test_wrong_input_is_explained_in_a_line(program, words: str, said: str, capsys) -> None:
    Path("a_file").touch()
    assert program.main(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["benchmark.py", "soak.py"])
def test_the_help_answers_from_any_folder_without_anything_heavy(name: str) -> None:
    script = Path(benchmark.__file__).with_name(name)
    words = [sys.executable, "-X", "importtime", script, "--help"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert f"usage: {name}" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "numpy", "pytorch_lightning"}


def test_the_memory_of_a_run_is_its_own() -> None:
    held = np.ones(10**8)  # 800 MB of this process
    seconds, megabytes = sections.run_process([sys.executable, "-c", "held = b'x' * 10**8"])
    assert held.all()
    assert 95 < megabytes < 400
    assert seconds > 0
