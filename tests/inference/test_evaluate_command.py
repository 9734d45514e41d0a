"""``scripts/evaluate.py`` on a small run: its numbers, its files, and what wrong input gets."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cifar_lab.cli import fit
from cifar_lab.data import sources, synthetic
from cifar_lab.errors import UserError
from cifar_lab.inference.confusion_file import write_figure
from cifar_lab.inference.evaluate_command import main
from cifar_lab.inference.evaluation import Evaluation
from cifar_lab.inference.known_data import data_dir_of_run, load_split
from cifar_lab.inference.restore import load_classifier

Capture = pytest.CaptureFixture[str]
FLAGS = "--hidden_units 8 --batch_size 12 --max_steps 16 --eval_every 4 --progress none"
FLAGS += " --precision 32-true"  # as evaluate.py computes


@pytest.fixture
def tree(write_tree: Callable[..., Path]) -> Path:
    """The usual tree with every third image in the wrong class, so that no model is perfect."""
    root = write_tree()
    for split in ("train", "test"):
        folders = sorted((root / split).iterdir())
        for file in sorted(folders[0].iterdir())[::3]:
            contents = [(folder / file.name).read_bytes() for folder in folders]
            for folder, content in zip(folders, contents[1:] + contents[:1], strict=True):
                (folder / file.name).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run stays that all tests have a copy of."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def checkpoint(tree: Path, trained: Path) -> Path:
    """``best.ckpt`` of a small MLP in a run folder of the test's own."""
    if not any(trained.iterdir()):
        _fit("mlp", tree, "--log_dir", str(trained))
    shutil.copytree(trained, "lightning_logs")
    return Path("lightning_logs/mlp/version_0/checkpoints/best.ckpt").resolve()


@pytest.fixture
def evaluate(tree: Path, capsys: Capture) -> Callable[..., dict[str, Any]]:
    """Runs the command with ``--json`` on the tree and reads what it prints."""

    def run(checkpoint: Path, *flags: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([str(checkpoint), "--data_dir", str(tree), "--json", *flags]) == 0
        captured = capsys.readouterr()
        assert not _complaints(captured.err)
        return json.loads(captured.out)

    return run


def _fit(model: str, tree: Path, *flags: str) -> None:
    assert fit(["--model", model, "--data_dir", str(tree), *FLAGS.split(), *flags]) == 0


def _complaints(err: str) -> list[str]:
    """The lines of stderr, but for the one about the cache, which is empty in each test."""
    return [line for line in err.splitlines() if not line.startswith("decoding ")]


def _summary(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint.parent.parent / "summary.json").read_text("utf-8"))


def _fails(words: list[str], said: str, capsys: Capture) -> None:
    """Checks for exit status 2, an empty stdout and an error of a line or two."""
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    lines = _complaints(captured.err)
    assert lines[0].startswith("evaluate.py: ")
    assert len(lines) <= 2


def _test_images(tree: Path) -> tuple[np.ndarray, np.ndarray]:
    files = sorted((tree / "test").glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    names = sorted({file.parent.name for file in files})
    return images, np.array([names.index(file.parent.name) for file in files])


def _logits(checkpoint: Path, images: np.ndarray) -> np.ndarray:
    """Of the MLP, in NumPy, from the weights in the file."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    state = {name: tensor.double().numpy() for name, tensor in state.items()}
    weights = [array for name, array in state.items() if name.startswith("network.")]
    hidden = ((images - state["normalize.mean"]) / state["normalize.std"]).reshape(len(images), -1)
    hidden = np.maximum(hidden @ weights[0].T + weights[1], 0)
    return hidden @ weights[2].T + weights[3]


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    largest = logits.max(1)
    sums = np.log(np.exp(logits - largest[:, None]).sum(1)) + largest
    return (sums - logits[np.arange(len(labels)), labels]).mean()


# --- numbers ----------------------------------------------------------------------------------


def test_numbers_are_those_of_numpy(
    checkpoint: Path, tree: Path, evaluate: Callable[..., dict[str, Any]]
) -> None:
    result = evaluate(checkpoint)
    images, labels = _test_images(tree)
    logits = _logits(checkpoint, images)
    confusion = np.zeros((3, 3), dtype=int)
    np.add.at(confusion, (labels, logits.argmax(1)), 1)
    assert result["confusion"] == confusion.tolist()
    assert result["accuracy"] == (logits.argmax(1) == labels).mean()
    loss = _cross_entropy(logits, labels)
    assert result["loss"] == pytest.approx(loss, rel=1e-4)
    assert [row["name"] for row in result["classes"]] == ["bird", "cat", "frog"]
    assert [row["images"] for row in result["classes"]] == [15, 15, 15]
    assert [row["correct"] for row in result["classes"]] == confusion.diagonal().tolist()


def test_tta_averages_logits(
    checkpoint: Path, tree: Path, evaluate: Callable[..., dict[str, Any]]
) -> None:
    images, labels = _test_images(tree)
    logits = (_logits(checkpoint, images) + _logits(checkpoint, images[..., ::-1])) / 2
    loss = _cross_entropy(logits, labels)
    result = evaluate(checkpoint, "--tta", "flip")
    assert result["tta"] == "flip"
    assert result["loss"] == pytest.approx(loss, rel=1e-4)
    losses = [evaluate(checkpoint, "--tta", kind)["loss"] for kind in ("none", "flip_shift")]
    assert len({round(value, 6) for value in (*losses, loss)}) == 3


def test_test_accuracy_is_that_of_the_run_whatever_the_batches(
    checkpoint: Path, evaluate: Callable[..., dict[str, Any]]
) -> None:
    expected = _summary(checkpoint)["accuracy"]["test"]["of_best_checkpoint"]
    assert 0.2 < expected < 0.9
    for batch_size in ("1", "7", "45", "500"):
        result = evaluate(checkpoint, "--batch_size", batch_size)
        assert result["images"] == 45
        assert result["accuracy"] == pytest.approx(expected, abs=1e-6)


def test_val_accuracy_is_that_which_the_checkpoint_was_chosen_by(
    checkpoint: Path, evaluate: Callable[..., dict[str, Any]]
) -> None:
    accuracy = _summary(checkpoint)["accuracy"]["val"]
    assert accuracy["best"] > accuracy["last"]
    for name, point in (("best", "best"), ("last", "last")):
        result = evaluate(checkpoint.with_name(f"{name}.ckpt"), "--split", "val")
        assert result["images"] == 12
        assert result["accuracy"] == pytest.approx(accuracy[point], abs=1e-6)


def test_the_folder_of_a_run_and_the_fields_of_the_json(
    checkpoint: Path, tree: Path, evaluate: Callable[..., dict[str, Any]]
) -> None:
    result = evaluate(checkpoint.parent.parent, "--split", "train")
    assert result["checkpoint"] == str(checkpoint)
    assert (result["model"], result["split"], result["tta"]) == ("mlp", "train", "none")
    assert result["images"] == 108
    assert result["seconds"] > 0
    assert result["data"] == {
        "source": "folder",
        "location": str(tree),
        "fingerprint": _summary(checkpoint)["data"]["fingerprint"],
    }


def test_numpy_mlp(tree: Path, evaluate: Callable[..., dict[str, Any]]) -> None:
    _fit("numpy_mlp", tree)
    checkpoint = Path("lightning_logs/numpy_mlp/version_0/checkpoints/best.ckpt")
    result = evaluate(checkpoint, "--tta", "none")
    expected = _summary(checkpoint)["accuracy"]["test"]["of_best_checkpoint"]
    assert result["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert evaluate(checkpoint, "--tta", "flip_shift")["images"] == 45


# --- what is printed and written --------------------------------------------------------------


def test_the_table_shows_what_the_json_holds(
    checkpoint: Path, tree: Path, evaluate: Callable[..., dict[str, Any]], capsys: Capture
) -> None:
    result = evaluate(checkpoint)
    assert main([str(checkpoint), "--data-dir", str(tree)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    rate = f"{100 * result['accuracy']:.2f} %"
    assert any(line.split()[:3] == ["accuracy", *rate.split()] for line in lines)
    start = next(number for number, line in enumerate(lines) if line.startswith("  class"))
    table = lines[start : start + 4]
    assert len({len(line) for line in table}) == 1  # aligned
    for line, row in zip(table[1:], result["classes"], strict=True):
        precision = row["precision"]
        shown = "–" if precision is None else f"{100 * precision:.2f} %"
        rates = f"{100 * row['accuracy']:.2f} % {shown}"
        assert line.split() == f"{row['name']} {row['images']} {row['correct']} {rates}".split()
    assert lines[-1] == f"confusion matrix: {result['figure']}"


def test_the_figure_is_beside_the_checkpoint_or_where_it_is_wanted(
    checkpoint: Path, tmp_path: Path, evaluate: Callable[..., dict[str, Any]]
) -> None:
    before = set(checkpoint.parent.iterdir())
    for path, flags in (
        (tmp_path / "a/b/confusion_val.png", ["--output", "a/b", "--split", "val"]),
        (checkpoint.with_name("confusion_test.png"), []),
    ):
        assert not path.exists()
        figure = Path(evaluate(checkpoint, *flags)["figure"])
        assert figure.resolve() == path
        with Image.open(figure) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 300
    assert set(checkpoint.parent.iterdir()) == before | {path}


def test_names_that_the_font_cannot_draw_are_no_reason_to_complain() -> None:
    result = Evaluation(np.eye(2, dtype=np.int64), 0.0, 0.0)
    write_figure(result, ("鳥", "cat"), Path("x.png"))
    assert Path("x.png").stat().st_size > 1000
    with pytest.raises(UserError, match=r"none/x\.png: cannot be written"):
        write_figure(result, ("bird", "cat"), Path("none/x.png"))


def test_a_figure_that_cannot_be_written_costs_no_numbers(
    checkpoint: Path, tree: Path, capsys: Capture
) -> None:
    Path("out/confusion_test.png").mkdir(parents=True)
    words = [str(checkpoint), "--data_dir", str(tree), "--output", "out"]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert "accuracy" in printed.out
    assert "confusion matrix" not in printed.out
    assert "out/confusion_test.png: cannot be written" in printed.err
    assert main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["figure"] is None


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cifar_lab.inference.evaluate_command import main; "
        "status = main(['--help']); main(['x', '--split', 'y']); "
        "heavy = {'torch', 'numpy', 'matplotlib', 'pytorch_lightning'} & set(sys.modules); "
        "sys.exit(str(heavy or '') or status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--tta" in done.stdout


# --- data that are not the model's ------------------------------------------------------------


def test_splits_are_those_of_the_checkpoint(checkpoint: Path, tree: Path) -> None:
    model = load_classifier(checkpoint)
    train, val = (load_split(model, split, str(tree), "auto").indices for split in ("train", "val"))
    assert sorted([*train, *val]) == list(range(120))
    model.data["split_seed"] += 1
    assert set(load_split(model, "val", str(tree), "auto").indices) != set(val)
    model.data["val_size"] = 30
    assert len(load_split(model, "val", str(tree), "auto").indices) == 30


def test_without_a_folder_the_data_of_the_run_are_read(
    checkpoint: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("CIFAR_LAB_DATA", raising=False)
    config = checkpoint.parent.parent / "config.yaml"
    Path("emptied").mkdir()
    for content in (
        "data_dir: gone",
        "data_dir: emptied",
        "data_dir: [1",
        "data_dir: null",
        "1: 2",
        "{}",
    ):
        config.write_text(content, "utf-8")
        assert data_dir_of_run(checkpoint) is None
    config.unlink()
    assert data_dir_of_run(checkpoint) is None
    config.write_text(yaml.safe_dump({"data_dir": str(tree)}), "utf-8")
    copies = checkpoint.parent.with_name("copies")  # not where a run puts its checkpoints
    assert data_dir_of_run(checkpoint) == str(tree)
    assert data_dir_of_run(copies / checkpoint.name) is None
    monkeypatch.chdir(checkpoint.parent)
    capsys.readouterr()
    assert main(["best.ckpt", "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 12
    monkeypatch.setenv("CIFAR_LAB_DATA", "elsewhere")
    assert data_dir_of_run(checkpoint) is None


def test_other_images_are_a_warning_for_test_and_an_error_for_splits_of_the_training(
    checkpoint: Path, write_tree: Callable[..., Path], capsys: Capture
) -> None:
    words = [str(checkpoint), "--data_dir", str(write_tree("other", train=5, test=20)), "--json"]
    capsys.readouterr()
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["images"] == 60
    trained_on = load_classifier(checkpoint).data["fingerprint"]
    for part in ("warning: other data", json.loads(out)["data"]["fingerprint"], trained_on):
        assert part in err
    for split in ("val", "train"):
        _fails([*words, "--split", split], f"--split {split}: image folders", capsys)


def test_other_classes_are_named(
    checkpoint: Path, write_tree: Callable[..., Path], capsys: Capture
) -> None:
    for classes, said in (
        (("bird", "frog"), "has 3 classes (bird, cat, frog), the data have 2 (bird, frog)"),
        (("bird", "cat", "toad"), "class 2 is 'frog' for the model and 'toad' in the data"),
    ):
        other = write_tree("-".join(classes), classes=classes)
        _fails([str(checkpoint), "--data_dir", str(other)], said, capsys)


def test_a_model_without_a_validation_split(
    tree: Path, evaluate: Callable[..., dict[str, Any]], capsys: Capture
) -> None:
    _fit("mlp", tree, "--val_size", "0")
    run = Path("lightning_logs/mlp/version_0")
    _fails([str(run), "--split", "val", "--data_dir", str(tree)], "--val_size 0", capsys)
    assert evaluate(run, "--split", "train")["images"] == 120
    expected = json.loads((run / "summary.json").read_text("utf-8"))["accuracy"]["test"]["last"]
    assert evaluate(run)["accuracy"] == pytest.approx(expected, abs=1e-6)


def test_a_checkpoint_that_says_nothing_of_its_data(
    checkpoint: Path, tree: Path, evaluate: Callable[..., dict[str, Any]], capsys: Capture
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["cifar_lab"].update(data={}, class_names=[])
    torch.save(content, "bare.ckpt")
    assert evaluate(Path("bare.ckpt"))["images"] == 45
    _fails(["bare.ckpt", "--split", "val", "--data_dir", str(tree)], "--split val", capsys)


def test_a_model_of_synthetic_images_is_evaluated_on_them_without_a_look_elsewhere(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = partial(synthetic.generate, train_size=200, test_size=50)
    monkeypatch.setattr(synthetic, "generate", few)
    assert fit(["--model", "mlp", "--source", "synthetic", *FLAGS.split()]) == 0
    run = next(Path("lightning_logs").glob("mlp*/version_0"))
    capsys.readouterr()
    assert main([str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["data"]["source"] == "synthetic"
    assert json.loads(out)["images"] == 50


# --- wrong input ------------------------------------------------------------------------------


def test_no_data_is_an_error_and_never_another_set(checkpoint: Path, capsys: Capture) -> None:
    Path("empty").mkdir()
    capsys.readouterr()
    assert main([str(checkpoint), "--data_dir", "empty", "--source", "cifar10"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "evaluate.py: no mirror delivered" in err
    assert "SYNTHETIC" not in err
    assert not list(checkpoint.parent.glob("*.png"))
    _fails([str(checkpoint), "--data_dir", "nowhere"], "nowhere: no such folder", capsys)


def test_a_source_that_is_none_is_refused(checkpoint: Path, tree: Path) -> None:
    with pytest.raises(UserError, match="source 'folder': expected one of"):
        load_split(load_classifier(checkpoint), "test", str(tree), "folder")


def test_images_of_a_folder_are_never_downloaded(
    checkpoint: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "download_archive", lambda *given: pytest.fail("downloaded"))
    monkeypatch.delenv("CIFAR_LAB_DATA", raising=False)
    (checkpoint.parents[1] / "config.yaml").unlink()  # which says where they were
    _fails([str(checkpoint)], "data: no images here. The model was trained on image", capsys)


def test_checkpoints_that_are_none(checkpoint: Path, tree: Path, capsys: Capture) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save({"weights": 1}, "foreign.ckpt")
    torch.save({name: value for name, value in content.items() if name != "cifar_lab"}, "old.ckpt")
    Path("broken.ckpt").write_bytes(checkpoint.read_bytes()[:3000])
    for name, said in (
        ("missing", "no such checkpoint"),
        ("foreign", "not a checkpoint of cifar_lab"),
        ("old", "from before its format"),
        ("broken", "damaged"),
    ):
        _fails([f"{name}.ckpt", "--data_dir", str(tree)], said, capsys)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--splt", "val"], "--splt: unknown; did you mean --split?"),
        (["--split", "validation"], "--split: invalid choice: 'validation'"),
        (["--tta", "crop"], "--tta: invalid choice: 'crop'"),
        (["--batch_size", "0"], "expected a positive integer, got '0'"),
        (["--tt", "flip"], "--tt: unknown"),  # no abbreviations
    ],
)
def test_wrong_flags(flags: list[str], said: str, capsys: Capture) -> None:
    _fails(["x.ckpt", *flags], said, capsys)


def test_an_output_that_is_a_file(checkpoint: Path, tree: Path, capsys: Capture) -> None:
    Path("taken").touch()
    words = [str(checkpoint), "--data_dir", str(tree), "--output", "taken"]
    _fails(words, "--output taken: cannot be written to (File exists)", capsys)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_a_folder_that_cannot_be_written_to_suggests_output(
    checkpoint: Path, tree: Path, capsys: Capture
) -> None:
    # Not even root can write to the folder of a process's open files.
    opened = os.open(checkpoint, os.O_RDONLY)
    try:
        path = f"/proc/self/fd/{opened}"
        words = [path, "--data_dir", str(tree)]
        _fails(words, "/proc/self/fd: cannot be written to", capsys)
        assert main(words) == 2
        assert "give --output a folder" in capsys.readouterr().err
        assert main([*words, "--output", "figures"]) == 0
    finally:
        os.close(opened)
    assert Path("figures/confusion_test.png").is_file()
