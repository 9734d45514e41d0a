"""``cifar-lab predict``: what it prints is what the model computes; bad files stop nothing."""

import json
import os
import shlex
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_lab.cli import main
from cifar_lab.inference import images
from cifar_lab.inference.prediction import predict
from cifar_lab.models import MLP, NumpyMLP
from cifar_lab.run.restore import load_model

CLASSES = ("bird", "cat", "frog")


@pytest.fixture
def pictures() -> list[str]:
    """Five 32×32 images of noise in a folder, by path."""
    Path("pictures").mkdir()
    paths = [f"pictures/{number}.png" for number in range(5)]
    for seed, path in enumerate(paths):
        pixels = np.random.RandomState(seed).randint(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def probabilities(checkpoint: Path, pictures, numpy_logits) -> np.ndarray:
    """The calibrated probabilities of the pictures, (5, 3), in NumPy."""
    summary = json.loads((checkpoint.parent.parent / "summary.json").read_text("utf-8"))
    temperature = summary["calibration"]["temperature"]
    pixels = np.stack([np.asarray(Image.open(path)) for path in pictures]).transpose(0, 3, 1, 2)
    powers = np.exp(numpy_logits(checkpoint, pixels) / temperature)
    return powers / powers.sum(1, keepdims=True)


def test_answers_that_are_not_finite_are_refused(checkpoint, pictures, refused) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["network.1.weight"].fill_(3e38)
    torch.save(content, checkpoint)
    assert "probabilities are not finite" in refused("predict", checkpoint, *pictures, "--json")


def test_probabilities_are_those_of_numpy(checkpoint, pictures, json_of, probabilities) -> None:
    rows = json_of("predict", checkpoint, *pictures, "--top", "9")
    assert [row["path"] for row in rows] == pictures
    for row, expected in zip(rows, probabilities, strict=True):
        found = {entry["class"]: entry["probability"] for entry in row["classes"]}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose([found[name] for name in CLASSES], expected, atol=1e-5)


def test_a_person_gets_one_aligned_line_an_image(checkpoint, pictures, call, probabilities) -> None:
    os.rename(pictures[0], "pictures/a longer name.png")
    status, out, err = call("predict", checkpoint, "pictures", "--top", "2")
    assert (status, err) == (0, "")
    lines = [line.removesuffix("   like no class") for line in out.splitlines()]
    names = [line.split("   ")[0].strip() for line in lines]
    assert names == [*pictures[1:], "pictures/a longer name.png"]
    assert len(set(map(len, lines))) == 1
    assert all(line.count("%") == 2 for line in lines)
    best = probabilities[1]
    cells = lines[0].split()
    assert cells[1] == CLASSES[best.argmax()]
    assert float(cells[2].rstrip("%")) == pytest.approx(100 * best.max(), abs=0.006)


@pytest.mark.parametrize("batch_size", [1, 2, 500])
def test_bad_files_stop_nothing(batch_size, checkpoint, pictures, call, json_of) -> None:
    Path("text.png").write_text("not a picture")
    paths = [pictures[0], "none.png", pictures[1], "text.png", pictures[2]]
    words = [checkpoint, *paths, "--batch_size", batch_size]
    status, out, err = call("predict", *words)
    assert status == 2
    assert [line.split()[0] for line in out.splitlines()] == pictures[:3]
    assert err.splitlines() == [
        "cifar-lab predict: none.png: no such file",
        "cifar-lab predict: text.png: not an image that Pillow reads",
    ]
    rows = json_of("predict", *words, status=2)
    assert [row["path"] for row in rows] == paths
    assert ["classes" in row for row in rows] == [True, False, True, False, True]
    assert ["error" in row for row in rows] == [False, True, False, True, False]
    assert rows[1]["error"] == "none.png: no such file"
    alone = json_of("predict", checkpoint, *pictures[:3])
    for row, same in zip(rows[::2], alone, strict=True):
        for entry, other in zip(row["classes"], same["classes"], strict=True):
            assert entry["probability"] == pytest.approx(other["probability"], abs=1e-6)


def test_what_a_folder_has_that_is_not_predicted_is_said(checkpoint, pictures, call) -> None:
    Path("pictures/photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    Path("pictures/notes.txt").touch()
    Path("pictures/.DS_Store").touch()
    status, out, err = call("predict", checkpoint, "pictures")
    assert (status, len(out.splitlines())) == (2, 5)
    left_out, unread = err.splitlines()
    assert left_out.startswith("cifar-lab predict: pictures: left out: notes.txt (")
    reason = "not an image that Pillow reads (HEIC); convert it to JPEG or PNG"
    assert unread == f"cifar-lab predict: pictures/photo.HEIC: {reason}"
    Path("pictures/photo.HEIC").unlink()
    assert call("predict", checkpoint, "pictures")[0] == 0


def test_only_bad_files_and_an_empty_folder(checkpoint, json_of) -> None:
    Path("empty").mkdir()
    empty, missing = json_of("predict", checkpoint, "empty", "none.png", status=2)
    assert empty["error"] == "empty: no images in this folder"
    assert missing["error"] == "none.png: no such file"


def test_files_are_read_a_batch_at_a_time(checkpoint, pictures, monkeypatch) -> None:
    read = Mock(wraps=images.read_image)
    monkeypatch.setattr("cifar_lab.inference.prediction.read_image", read)
    predictions = predict(load_model(checkpoint), list(map(Path, pictures)), batch_size=2)
    next(predictions)
    assert read.call_count == 2
    assert len(list(predictions)) == 4


@pytest.mark.parametrize("model_class", [MLP, NumpyMLP])
def test_classes_without_names_have_numbers(model_class: type, pictures) -> None:
    model = model_class([8], num_classes=3).eval()
    (prediction,) = predict(model, [Path(pictures[0])], top=3)
    assert {name for name, _ in prediction.classes} == {"0", "1", "2"}


@pytest.mark.slow
def test_real_images_are_recognised_as_in_training(real_data: str, json_of) -> None:
    """Far above the 10 % of chance, which a wrong order of channels or scale would not reach."""
    folder = Path(real_data, "test")
    if not folder.is_dir():
        pytest.skip("needs image folders")
    flags = f"--model mlp --data_dir '{real_data}' --max_steps 150 --eval_every 150"
    assert main(["fit", *shlex.split(flags), "--progress", "none"]) == 0
    paths = [str(path) for path in sorted(folder.glob("*/00[0-4]?.*"))]
    rows = json_of("predict", "lightning_logs/mlp/version_0", *paths, "--top", "1")
    right = [Path(row["path"]).parent.name == row["classes"][0]["class"] for row in rows]
    assert len(right) == 500
    assert np.mean(right) > 0.25


def test_help_states_the_limit_of_pixels(call) -> None:
    assert f"up to {images.MAX_PIXELS:,} pixels" in " ".join(call("predict", "--help")[1].split())
