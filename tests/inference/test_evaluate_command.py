"""``cifar-lab evaluate`` on a small run: its numbers, its files, and what wrong input gets."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cifar_lab.cli import main
from cifar_lab.data import sources, synthetic
from cifar_lab.errors import UserError
from cifar_lab.inference.evaluation import Evaluation
from cifar_lab.inference.evaluation_report import write_figure
from cifar_lab.inference.known_data import data_dir_of_run, load_split
from cifar_lab.run.restore import load_model

FLAGS = "--hidden_units 8 --batch_size 12 --max_steps 16 --eval_every 4 --progress none"
FLAGS += " --precision 32-true"


@pytest.fixture
def tree(write_tree) -> Path:
    """The usual tree with every third image in the wrong class, so that no model is perfect."""
    root = write_tree("a tree with mistakes")
    for split in ("train", "test"):
        folders = sorted((root / split).iterdir())
        for file in sorted(folders[0].iterdir())[::3]:
            contents = [(folder / file.name).read_bytes() for folder in folders]
            for folder, content in zip(folders, contents[1:] + contents[:1], strict=True):
                (folder / file.name).write_bytes(content)
    return root


@pytest.fixture
def evaluate(tree: Path, json_of) -> Callable[..., dict[str, Any]]:
    """Run the command with ``--json`` on the tree; return what it prints."""
    return lambda checkpoint, *flags: json_of("evaluate", checkpoint, "--data_dir", tree, *flags)


def _fit(model: str, tree: Path, *flags: str) -> None:
    assert main(["fit", "--model", model, "--data_dir", str(tree), *FLAGS.split(), *flags]) == 0


def _summary(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint.parent.parent / "summary.json").read_text("utf-8"))


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_numbers_are_those_of_numpy(tta: str, checkpoint, tree, evaluate, numpy_logits) -> None:
    result = evaluate(checkpoint, "--tta", tta)
    found = sources.load(tree, "cifar10")
    images, labels = found.test_images, found.test_labels
    logits = numpy_logits(checkpoint, images)
    if tta == "flip":
        logits = (logits + numpy_logits(checkpoint, images[..., ::-1])) / 2
    confusion = np.zeros((3, 3), dtype=int)
    np.add.at(confusion, (labels, logits.argmax(1)), 1)
    losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(45), labels]
    assert result["tta"] == tta
    assert result["confusion"] == confusion.tolist()
    assert result["accuracy"] == (logits.argmax(1) == labels).mean()
    assert result["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert [row["name"] for row in result["classes"]] == ["bird", "cat", "frog"]


def test_test_accuracy_is_that_of_the_run_whatever_the_batches(checkpoint, evaluate) -> None:
    expected = _summary(checkpoint)["accuracy"]["test"]["of_best_checkpoint"]
    assert 0.2 < expected < 0.9
    for batch_size in ("1", "7", "45", "500"):
        result = evaluate(checkpoint, "--batch_size", batch_size)
        assert result["images"] == 45
        assert result["accuracy"] == pytest.approx(expected, abs=1e-6)


def test_val_accuracy_is_what_the_checkpoint_was_chosen_by(checkpoint, evaluate) -> None:
    accuracy = _summary(checkpoint)["accuracy"]["val"]
    assert accuracy["best"] > accuracy["last"]
    for name in ("best", "last"):
        result = evaluate(checkpoint.with_name(f"{name}.ckpt"), "--split", "val")
        assert result["images"] == 12
        assert result["accuracy"] == pytest.approx(accuracy[name], abs=1e-6)


def test_the_folder_of_a_run_and_the_fields_of_the_json(checkpoint, tree, evaluate) -> None:
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


def test_numpy_mlp(tree, evaluate) -> None:
    _fit("numpy_mlp", tree)
    checkpoint = Path("lightning_logs/numpy_mlp/version_0/checkpoints/best.ckpt")
    result = evaluate(checkpoint, "--tta", "none")
    expected = _summary(checkpoint)["accuracy"]["test"]["of_best_checkpoint"]
    assert result["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert evaluate(checkpoint, "--tta", "flip_shift")["images"] == 45


def test_the_table_shows_what_the_json_holds(checkpoint, tree, evaluate, call) -> None:
    result = evaluate(checkpoint)
    status, out, err = call("evaluate", checkpoint, "--data-dir", tree)
    assert (status, err) == (0, "")
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


def test_the_figure_is_beside_the_checkpoint_or_in_output(checkpoint, tmp_path, evaluate) -> None:
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


def test_no_evaluation_overwrites_the_figure_of_another(checkpoint, evaluate, write_tree) -> None:
    last, alone = checkpoint.with_name("last.ckpt"), checkpoint.parent / "alone" / "my.ckpt"
    alone.parent.mkdir()
    shutil.copy(last, alone)
    other = write_tree("other images", test=9)
    names = [
        Path(evaluate(*words)["figure"]).name
        for words in (
            [checkpoint],
            [checkpoint, "--tta", "flip"],
            [checkpoint, "--split", "val"],
            [last],
            [last, "--tta", "flip"],
            [alone],
        )
    ]
    assert names == [
        "confusion_test.png",
        "confusion_test_flip.png",
        "confusion_val.png",
        "confusion_test_last.png",
        "confusion_test_flip_last.png",
        "confusion_test.png",  # in a folder of its own
    ]
    words = ["evaluate", checkpoint, "--data_dir", other]
    assert main([str(word) for word in words]) == 0
    (figure,) = {path.name for path in checkpoint.parent.glob("*.png")} - set(names)
    assert figure == f"confusion_test_{sources.load(other, 'cifar10').fingerprint}.png"


def test_names_that_the_font_cannot_draw_are_no_reason_to_complain() -> None:
    result = Evaluation(np.eye(2, dtype=np.int64), 0.0, 0.0)
    write_figure(result, ("鳥", "cat"), Path("x.png"))
    assert Path("x.png").stat().st_size > 1000
    with pytest.raises(UserError, match=r"none/x\.png: cannot be written"):
        write_figure(result, ("bird", "cat"), Path("none/x.png"))


def test_a_missing_figure_costs_no_numbers(checkpoint, tree, call, json_of, refused) -> None:
    Path("out/confusion_test.png").mkdir(parents=True)
    words = ["evaluate", checkpoint, "--data_dir", tree, "--output", "out"]
    status, out, err = call(*words)
    assert status == 2
    assert "accuracy" in out
    assert "confusion matrix" not in out
    assert "out/confusion_test.png: cannot be written" in err
    assert json_of(*words, status=2)["figure"] is None
    Path("taken").touch()
    words[-1] = "taken"
    assert "--output taken: cannot be written to (File exists)" in refused(*words)


def test_splits_are_those_of_the_checkpoint(checkpoint, tree) -> None:
    model = load_model(checkpoint)
    train, val = (load_split(model, split, str(tree), "auto").indices for split in ("train", "val"))
    assert sorted([*train, *val]) == list(range(120))
    model.data["split_seed"] += 1
    assert set(load_split(model, "val", str(tree), "auto").indices) != set(val)
    model.data["val_size"] = 30
    assert len(load_split(model, "val", str(tree), "auto").indices) == 30
    with pytest.raises(UserError, match="source 'folder': expected one of"):
        load_split(model, "test", str(tree), "folder")


def test_without_a_folder_those_of_the_run_are_read(checkpoint, tree, monkeypatch, json_of) -> None:
    config = checkpoint.parent.parent / "config.yaml"
    Path("emptied").mkdir()
    folders = ("gone", "emptied", "[1", "null")
    for content in (*(f"data_dir: {folder}" for folder in folders), "1: 2", "{}"):
        config.write_text(content, "utf-8")
        assert data_dir_of_run(checkpoint) is None
    config.unlink()
    assert data_dir_of_run(checkpoint) is None
    config.write_text(yaml.safe_dump({"data_dir": str(tree)}), "utf-8")
    copies = checkpoint.parent.with_name("copies")  # not where a run puts its checkpoints
    assert data_dir_of_run(checkpoint) == str(tree)
    assert data_dir_of_run(copies / checkpoint.name) is None
    monkeypatch.chdir(checkpoint.parent)
    assert json_of("evaluate", "best.ckpt", "--split", "val")["images"] == 12
    monkeypatch.setenv("CIFAR_LAB_DATA", "elsewhere")
    assert data_dir_of_run(checkpoint) is None


def test_other_images_are_a_warning_or_an_error(checkpoint, write_tree, call, refused) -> None:
    other = write_tree("other", train=5, test=20)
    words = ["evaluate", checkpoint, "--data_dir", other, "--json"]
    status, out, err = call(*words)
    assert (status, json.loads(out)["images"]) == (0, 60)
    trained_on = load_model(checkpoint).data["fingerprint"]
    for part in ("warning: other data", json.loads(out)["data"]["fingerprint"], trained_on):
        assert part in err
    for split in ("val", "train"):
        assert f"--split {split}: image folders" in refused(*words, "--split", split, lines=2)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("bird", "frog", "owl"), "owl: not one of the model's classes (bird, cat, frog)"),
        (("bird", "cat", "toad"), "toad: not one of the model's classes (bird, cat, frog)"),
        ((), "has 3 classes (bird, cat, frog), the data have 10 (class0, class1,"),
    ],
)
def test_other_classes_are_named(
    checkpoint, write_tree, write_original, refused, classes, said: str
) -> None:
    other = write_tree("other", classes=classes) if classes else write_original()
    assert said in refused("evaluate", checkpoint, "--data_dir", other)


EVALUATION_SETS: dict[str, Callable[[Path], Any]] = {
    "no training split": lambda tree: shutil.rmtree(tree / "train"),
    "no folder of a class": lambda tree: shutil.rmtree(tree / "test/frog"),
    "no images of a class": lambda tree: [x.unlink() for x in (tree / "test/frog").iterdir()],
    "class folders alone": lambda tree: [
        shutil.rmtree(tree / "train"),
        *((tree / "test" / name).rename(tree / name) for name in ("bird", "cat", "frog")),
        (tree / "test").rmdir(),
    ],
}


@pytest.mark.parametrize("kind", EVALUATION_SETS)
def test_a_set_to_evaluate_needs_neither_a_training_split_nor_every_class(
    kind: str, checkpoint, tree, evaluate, call, numpy_logits
) -> None:
    whole = evaluate(checkpoint)
    EVALUATION_SETS[kind](tree)
    status, out, err = call("evaluate", checkpoint, "--data_dir", tree, "--json")
    assert (status, "warning: other data" in err) == (0, True)
    kept = 2 if "of a class" in kind else 3
    found = json.loads(out)
    assert found["confusion"][:kept] == whole["confusion"][:kept]
    assert [row["images"] for row in found["classes"]] == [15] * kept + [0] * (3 - kept)


def test_the_training_images_are_not_taken_for_a_test_set(checkpoint, tree, refused) -> None:
    told = refused("evaluate", checkpoint, "--data_dir", tree / "train")
    assert f"name {tree} instead, and choose --split train" in told


def test_a_validation_split_of_the_data_is_that_of_the_checkpoint(tree, evaluate) -> None:
    shutil.copytree(tree / "test", tree / "val")
    _fit("mlp", tree)
    checkpoint = Path("lightning_logs/mlp/version_0/checkpoints/best.ckpt")
    result = evaluate(checkpoint, "--split", "val")
    assert (result["images"], evaluate(checkpoint, "--split", "train")["images"]) == (45, 120)
    assert result["confusion"] == evaluate(checkpoint)["confusion"]
    assert result["accuracy"] == pytest.approx(_summary(checkpoint)["accuracy"]["val"]["best"])


def test_a_model_without_a_validation_split(tree, evaluate, refused) -> None:
    _fit("mlp", tree, "--val_size", "0")
    run = Path("lightning_logs/mlp/version_0")
    assert "--val_size 0" in refused("evaluate", run, "--split", "val", "--data_dir", tree)
    assert evaluate(run, "--split", "train")["images"] == 120
    expected = _summary(run / "checkpoints/last.ckpt")["accuracy"]["test"]["last"]
    assert evaluate(run)["accuracy"] == pytest.approx(expected, abs=1e-6)


def test_a_checkpoint_that_says_nothing_of_its_data(checkpoint, tree, evaluate, refused) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["cifar_lab"].update(data={}, class_names=[])
    torch.save(content, "bare.ckpt")
    assert evaluate(Path("bare.ckpt"))["images"] == 45
    assert "--split val" in refused("evaluate", "bare.ckpt", "--split", "val", "--data_dir", tree)


def test_a_model_of_synthetic_images_is_evaluated_on_them(json_of, refused, monkeypatch) -> None:
    few = partial(synthetic.generate, train_size=200, test_size=50)
    monkeypatch.setattr(synthetic, "generate", few)
    assert main(["fit", "--model", "mlp", "--source", "synthetic", *FLAGS.split()]) == 0
    run = next(Path("lightning_logs").glob("mlp*/version_0"))
    found = json_of("evaluate", run)
    assert (found["data"]["source"], found["images"]) == ("synthetic", 50)
    Path("named").mkdir()
    Path("named/x.txt").touch()
    assert "no CIFAR-10 here" in refused("evaluate", run, "--data_dir", "named")


def test_no_data_is_an_error_and_never_another_set(checkpoint, call, refused) -> None:
    Path("empty").mkdir()
    status, out, err = call("evaluate", checkpoint, "--data_dir", "empty", "--source", "cifar10")
    assert (status, out) == (2, "")
    assert "cifar-lab evaluate: no mirror delivered" in err
    assert not list(checkpoint.parent.glob("*.png"))
    assert "nowhere: no such folder" in refused("evaluate", checkpoint, "--data_dir", "nowhere")


def test_images_of_a_folder_are_never_downloaded(checkpoint, refused, monkeypatch) -> None:
    monkeypatch.setattr(sources, "download_archive", lambda *given: pytest.fail("downloaded"))
    (checkpoint.parents[1] / "config.yaml").unlink()  # which says where they were
    told = refused("evaluate", checkpoint)
    assert "data: no images here. The model was trained on image folders" in told


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_where_nothing_can_be_written_use_output(checkpoint, tree, call, refused) -> None:
    # Not even root can write to the folder of a process's open files.
    opened = os.open(checkpoint, os.O_RDONLY)
    try:
        words = ["evaluate", f"/proc/self/fd/{opened}", "--data_dir", tree]
        told = refused(*words)
        assert "/proc/self/fd: cannot be written to" in told
        assert "give --output a folder" in told
        assert call(*words, "--output", "figures")[0] == 0
    finally:
        os.close(opened)
    assert Path("figures/confusion_test.png").is_file()
