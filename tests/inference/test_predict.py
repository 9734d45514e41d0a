"""`scripts/predict.py`: what it prints is what the model computes; bad files stop nothing."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from cifar_lab.cli import fit
from cifar_lab.inference import images
from cifar_lab.inference.predict_command import main
from cifar_lab.inference.prediction import predict
from cifar_lab.inference.restore import load_classifier
from cifar_lab.models import MLP

ROOT = Path(__file__).parents[2]
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


def _expected(checkpoint: Path, paths: list[str]) -> np.ndarray:
    """Probabilities (N, 3) from the weights in the file, by a network of one hidden layer."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
    x = (torch.from_numpy(pixels).double() - state["normalize.mean"].double()).flatten(1)
    first, second = (
        (state[f"network.{n}.weight"].double(), state[f"network.{n}.bias"].double()) for n in (1, 3)
    )
    return F.linear(F.linear(x, *first).relu(), *second).softmax(1).numpy()


def test_it_computes_in_whole_float32(pictures: list[str]) -> None:
    seen = []

    class Noting(MLP):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(images)

    before = torch.backends.cudnn.allow_tf32
    list(predict(Noting(hidden_units=[4], num_classes=3).eval(), [Path(path) for path in pictures]))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def _json(flags: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> Any:
    capsys.readouterr()
    assert main([*flags, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_answers_that_are_not_finite_are_refused(
    checkpoint: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["network.1.weight"].fill_(3e38)
    torch.save(content, checkpoint)
    assert main([str(checkpoint), *pictures, "--json"]) == 2
    assert "answers are not finite" in capsys.readouterr().err


def test_probabilities_are_those_of_an_independent_computation(
    checkpoint: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _json([str(checkpoint), *pictures, "--top", "9"], capsys)
    assert [row["path"] for row in rows] == pictures
    for row, expected in zip(rows, _expected(checkpoint, pictures), strict=True):
        found = {entry["class"]: entry["probability"] for entry in row["classes"]}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose([found[name] for name in CLASSES], expected, atol=1e-5)


def test_a_person_gets_one_aligned_line_an_image(
    checkpoint: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.rename(pictures[0], "pictures/a longer name.png")
    capsys.readouterr()
    assert main([str(checkpoint), "pictures", "--top", "2"]) == 0
    printed, errors = capsys.readouterr()
    lines = printed.splitlines()
    assert errors == ""
    assert [line.split("   ")[0].strip() for line in lines] == [
        *pictures[1:],
        "pictures/a longer name.png",
    ]
    assert len(set(map(len, lines))) == 1
    assert all(line.count("%") == 2 for line in lines)
    best = _expected(checkpoint, pictures[1:2])[0]
    cells = lines[0].split()
    assert cells[1] == CLASSES[best.argmax()]
    assert float(cells[2].rstrip("%")) == pytest.approx(100 * best.max(), abs=0.006)


@pytest.mark.parametrize("batch_size", [1, 2, 500])
def test_what_cannot_be_read_is_said_and_the_others_go_on(
    batch_size: int, checkpoint: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.png").write_text("not a picture")
    words = [pictures[0], "none.png", pictures[1], "text.png", pictures[2]]
    flags = [str(checkpoint), *words, "--batch_size", str(batch_size)]
    capsys.readouterr()
    assert main(flags) == 2
    printed, errors = capsys.readouterr()
    assert [line.split()[0] for line in printed.splitlines()] == pictures[:3]
    assert errors.splitlines() == [
        "predict.py: none.png: no such file",
        "predict.py: text.png: not an image that Pillow reads",
    ]
    rows = _json(flags, capsys, status=2)
    assert [row["path"] for row in rows] == words
    assert [("classes" in row, "error" in row) for row in rows] == [
        (True, False),
        (False, True),
    ] * 2 + [(True, False)]
    assert rows[1]["error"] == "none.png: no such file"
    alone = _json([str(checkpoint), *pictures[:3]], capsys)
    for row, same in zip(rows[::2], alone, strict=True):
        for entry, other in zip(row["classes"], same["classes"], strict=True):
            assert entry["probability"] == pytest.approx(other["probability"], abs=1e-6)


def test_only_bad_files_and_an_empty_folder(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    rows = _json([str(checkpoint), "empty", "none.png"], capsys, status=2)
    assert [row["error"] for row in rows] == [
        "empty: no images in this folder",
        "none.png: no such file",
    ]


def test_files_are_read_a_batch_at_a_time(
    checkpoint: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        read.append(path)
        return images.read_image(path)

    monkeypatch.setattr("cifar_lab.inference.prediction.read_image", counted)
    predictions = predict(load_classifier(checkpoint), list(map(Path, pictures)), batch_size=2)
    next(predictions)
    assert len(read) == 2
    assert len(list(predictions)) == 4


def test_a_numpy_mlp_predicts_as_well(
    tree: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = f"--model numpy_mlp --hidden_units 8 --data_dir '{tree}' --batch_size 12 --max_steps 5"
    assert fit([*shlex.split(flags), "--progress", "none"]) == 0
    run = "lightning_logs/numpy_mlp/version_0"
    rows = _json([run, "pictures"], capsys)
    state = torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert len(rows) == 5
    assert {entry["class"] for entry in rows[0]["classes"]} == set(CLASSES)
    assert not any(name.startswith("network.1.") for name in state)  # it is the NumPy one


def test_classes_without_names_have_numbers(checkpoint: Path, pictures: list[str]) -> None:
    model = load_classifier(checkpoint)
    model.class_names = ()
    (prediction,) = predict(model, [Path(pictures[0])], top=3)
    assert {name for name, _ in prediction.classes} == {"0", "1", "2"}


@pytest.mark.slow
def test_real_images_are_recognised_as_in_training(
    real_data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Far above the 10 % of chance, which a wrong order of channels or scale would not reach."""
    folder = Path(real_data, "test")
    if not folder.is_dir():
        pytest.skip("needs image folders")
    flags = f"--model mlp --data_dir '{real_data}' --max_steps 150 --eval_every 150"
    assert fit([*shlex.split(flags), "--progress", "none"]) == 0
    paths = [str(path) for path in sorted(folder.glob("*/00[0-4]?.*"))]
    rows = _json(["lightning_logs/mlp/version_0", *paths, "--top", "1"], capsys)
    right = [Path(row["path"]).parent.name == row["classes"][0]["class"] for row in rows]
    assert len(right) == 500
    assert np.mean(right) > 0.25


# --- wrong input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["none.ckpt", "x.png"], "none.ckpt: no such checkpoint"),
        (["text.ckpt", "x.png"], "text.ckpt: "),
        (["CKPT"], "IMAGE"),
        (["CKPT", "x.png", "--top", "0"], "positive integer"),
        (["CKPT", "x.png", "--tpo", "1"], "did you mean --top"),
        (["CKPT", "x.png", "--accelerator", "tpu"], "tpu"),
    ],
)
def test_wrong_input_is_one_line_and_exit_status_2(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.ckpt").write_text("not a checkpoint")
    assert main(flags) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert said in errors
    assert errors.startswith("predict.py: ")
    assert errors.count("\n") == 1


def test_a_checkpoint_of_another_version_or_program(
    checkpoint: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["cifar_lab"]["format"] = 99
    torch.save(content, "old.ckpt")
    torch.save({"weights": torch.zeros(3)}, "foreign.ckpt")
    capsys.readouterr()
    for path in ("old.ckpt", "foreign.ckpt"):
        assert main([path, *pictures]) == 2
        printed, errors = capsys.readouterr()
        assert printed == ""
        assert errors.startswith(f"predict.py: {path}: ")


def test_a_reader_that_has_had_enough_ends_it_quietly(
    checkpoint: Path, pictures: list[str]
) -> None:
    code = (
        "import sys; from cifar_lab.inference.predict_command import main; "
        f"sys.exit(main([{str(checkpoint)!r}, 'pictures']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# --- help -------------------------------------------------------------------------------------


def test_help_states_the_limit_of_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert f"up to {images.MAX_PIXELS:,} pixels" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["predict", "export"])
def test_help_imports_nothing_heavy(name: str) -> None:
    code = (
        f"import sys; from cifar_lab.inference.{name}_command import main; main(['--help']); "
        "sys.exit(bool({'torch', 'numpy', 'PIL', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["predict", "export"])
def test_the_script_runs(name: str) -> None:
    command = [sys.executable, f"scripts/{name}.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {name}.py")
