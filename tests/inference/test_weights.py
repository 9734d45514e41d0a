"""The pretrained weights: found by name, described by a card, loaded without this package."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from cifar_lab.run.checkpoint import PRETRAINED, pretrained
from cifar_lab.run.restore import load_model

CARD = (PRETRAINED / "README.md").read_text("utf-8")
NAMES = ["fast_cnn", "mlp"]


def _json(name: str) -> Any:
    return json.loads((PRETRAINED / f"{name}.json").read_text("utf-8"))


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _column(name: str) -> dict[str, str]:
    """What the table of the card says of a model."""
    found, run = _json(name), _json(f"{name}_run")
    right = round(found["accuracy"] * found["images"])
    interval = binomtest(right, found["images"]).proportion_ci(0.95, "wilson")
    calibrated, none = found["calibrated"], _json("unlike")["like_no_class"][name]
    model = load_model(name, "cpu")
    return {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "size of the file": f"{(PRETRAINED / f'{name}.safetensors').stat().st_size / 1e6:.2f} MB",
        "training steps": f"{run['steps']:,}",
        "step of the weights": f"{run['accuracy']['test']['of_best_checkpoint_step']:,}",
        "test accuracy": _percent(found["accuracy"]),
        "its 95 % interval": f"{100 * interval.low:.2f} to {_percent(interval.high)}",
        "of the checkpoint, float32": _percent(run["accuracy"]["test"]["of_best_checkpoint"]),
        "cross entropy": f"{found['loss']:.4f}",
        "calibration error": _percent(found["calibration_error"]),
        "after temperature scaling": _percent(calibrated["calibration_error"]),
        "temperature": f"{calibrated['temperature']:.3f}",
        "threshold": _percent(calibrated["threshold"]),
        "like no class: test images": _percent(calibrated["below_threshold"]),
        "like no class: noise": _percent(none["noise"]),
        "like no class: a single colour": _percent(none["flat"]),
        "like no class: a letter": _percent(none["letters"]),
    }


def results() -> str:
    """Return the table of the card."""
    columns = [_column(name) for name in NAMES]
    lines = ["| | " + " | ".join(f"`{name}`" for name in NAMES) + " |", "|---|---|---|"]
    rows = [[row, *(column[row] for column in columns)] for row in columns[0]]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def classes() -> str:
    """Return the table of the classes."""
    parts = [_json(name)["classes"] for name in NAMES]
    cells = [f"{name}, {rate}" for name in NAMES for rate in ("accuracy", "precision")]
    lines = ["| class | " + " | ".join(cells) + " |", "|---" * 5 + "|"]
    for rows in zip(*parts, strict=True):
        rates = [_percent(row[rate]) for row in rows for rate in ("accuracy", "precision")]
        lines.append("| " + " | ".join([rows[0]["name"], *rates]) + " |")
    return "\n".join(lines)


def test_the_card_says_what_was_measured() -> None:
    assert pretrained() == NAMES
    for name, table in (("results", results()), ("classes", classes())):
        assert f"<!-- {name} -->\n{table}\n<!-- end -->" in CARD
    for name in NAMES:
        found, run = _json(name), _json(f"{name}_run")
        model = load_model(name, "cpu")
        known = found["calibrated"]
        assert (known["temperature"], known["threshold"]) == (
            model.calibration.temperature,
            model.calibration.threshold,
        )
        assert run["calibration"].keys() == {"temperature", "threshold"}
        command = run["command"].removesuffix(" --progress line")  # which shows the same
        for fact in (command, run["device"]["name"], found["data"]["fingerprint"]):
            assert fact in CARD
        assert found["data"]["fingerprint"] == run["data"]["fingerprint"]
        assert (run["seed"], run["settings"]["recipe"], found["tta"]) == (0, name, "none")
    sizes = [(PRETRAINED / f"{name}.safetensors").stat().st_size for name in NAMES]
    assert sum(sizes) < 5_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_the_card_computes_what_the_package_does(name: str, monkeypatch) -> None:
    (code,) = re.findall(rf"```python\n(# {name}\n.*?)```", CARD, re.DOTALL)
    assert "cifar_lab" not in code.replace('"cifar_lab"', "")  # but for the key of the metadata
    monkeypatch.chdir(PRETRAINED)
    names: dict[str, Any] = {}
    exec(code, names)
    images = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (5, 3, 32, 32), np.uint8))
    model = load_model(name, "cpu")
    with torch.inference_mode():
        torch.testing.assert_close(names["logits"](images), model(images), rtol=1e-4, atol=1e-4)
        assert names["class_names"] == list(model.class_names)
        expected = model.predict_step(images, 0)
        torch.testing.assert_close(names["probabilities"](images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_accuracy_of_the_card_is_repeated(name: str, real_data: str, json_of) -> None:
    expected = _json(name)
    found = json_of("evaluate", name, "--data_dir", real_data)
    if found["data"]["fingerprint"] != expected["data"]["fingerprint"]:
        pytest.skip("needs the JPEG copy of CIFAR-10, whose pixels the card is about")
    assert found["confusion"] == expected["confusion"]
    assert found["accuracy"] == expected["accuracy"]
    assert found["calibrated"] == pytest.approx(expected["calibrated"], rel=1e-4)


def test_a_pretrained_model_works_by_its_name_and_writes_here(json_of, call, refused) -> None:
    Image.new("RGB", (40, 50), "teal").save("photo.png")
    before = {path: path.stat().st_mtime_ns for path in PRETRAINED.iterdir()}
    (row,) = json_of("predict", "mlp", "photo.png")
    assert len(row["classes"]) == 3
    assert isinstance(row["like_no_class"], bool)
    assert call("export", "mlp", "--format", "safetensors", "--half")[0] == 0
    assert {path.name for path in Path().iterdir()} == {"photo.png", "mlp.safetensors"}
    (again,) = json_of("predict", "mlp.safetensors", "photo.png")
    assert again == row
    assert {path: path.stat().st_mtime_ns for path in PRETRAINED.iterdir()} == before
    told = refused("predict", "mlp", "photo.png", "--figure", "photo.png")
    assert "--figure photo.png: one of the images" in told
    told = refused("predict", "fast-cnn", "photo.png")
    assert "fast-cnn: no such checkpoint; did you mean fast_cnn?" in told
    assert "pretrained models: fast_cnn, mlp" in refused("predict", "resnet", "photo.png")
    Path("mlp").mkdir()  # what is there goes first
    assert "it hides the pretrained model of this name" in refused("predict", "mlp", "photo.png")
