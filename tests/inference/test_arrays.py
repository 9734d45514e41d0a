"""``cifar-lab evaluate`` on images and labels in NumPy files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_lab.inference.arrays import load_arrays
from cifar_lab.run.restore import load_model

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (50, 32, 32, 3)).astype(np.uint8)
LABELS = np.tile(np.arange(10) % 3, 5)


def _save(folder: str, **arrays: Any) -> Path:
    Path(folder).mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(Path(folder, f"{name.replace('10_1', '10.1')}.npy"), array)
    return Path(folder)


@pytest.fixture
def accuracy(checkpoint: Path, numpy_logits) -> Callable[..., float]:
    """The accuracy of the checkpoint on images and labels, in NumPy."""

    def accuracy(images: np.ndarray, labels: np.ndarray) -> float:
        logits = numpy_logits(checkpoint, images.transpose(0, 3, 1, 2))
        return (logits.argmax(1) == labels).mean()

    return accuracy


def test_corruptions_become_a_table_of_severities(checkpoint, call, accuracy) -> None:
    images = {"fog": IMAGES, "snow": IMAGES[::-1], "spatter": 255 - IMAGES}
    folder = _save("CIFAR-10-C", **images, labels=LABELS.astype(np.uint8))
    status, out, err = call("evaluate", checkpoint, "--data_dir", folder, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    expected = {
        (name, n + 1): accuracy(pixels[10 * n : 10 * n + 10], LABELS[:10])
        for name, pixels in images.items()
        for n in range(5)
    }
    assert {(row["name"], row["severity"]): row["accuracy"] for row in found["sets"]} == expected
    assert found["in_means"] == ["fog", "snow"]  # without what is for validation
    mean = np.mean([value for (name, _), value in expected.items() if name != "spatter"])
    assert found["accuracy"] == pytest.approx(mean)
    assert (found["images"], found["class_names"]) == (150, ["bird", "cat", "frog"])
    lines = call("evaluate", checkpoint, "--data_dir", folder)[1].splitlines()
    rows = {
        line.split()[0]: line.replace("*", "").replace("%", "").split()[1:]
        for line in lines
        if line
    }
    for name in images:
        severities = [100 * expected[name, n] for n in range(1, 6)]
        cells = [*severities, np.mean(severities)]
        assert [float(cell) for cell in rows[name]] == pytest.approx(cells, abs=0.006)
    assert float(rows["mean"][-1]) == pytest.approx(100 * mean, abs=0.006)


PAIRS: dict[str, Callable[[], Any]] = {  # that make the file or folder to name
    "CIFAR-10.1": lambda: _save("d", cifar10_1_v6_data=IMAGES, cifar10_1_v6_labels=LABELS),
    "channels first": lambda: _save("d", images=IMAGES.transpose(0, 3, 1, 2), labels=LABELS),
    "Keras": lambda: _save("d", x_test=IMAGES, y_test=LABELS[:, None].astype(np.uint8)),
    "CIFAR-10.2": lambda: (
        np.savez("d.npz", images=IMAGES, labels=LABELS, label_names=["x"]) or "d.npz"
    ),
    "compressed": lambda: (
        np.savez_compressed("d.npz", test_images=IMAGES, test_labels=LABELS) or "d.npz"
    ),
    "capital letters": lambda: _save("d", X_test=IMAGES, Y_test=LABELS),
    "with a training part": lambda: _save(
        "d", x_train=IMAGES[:9], y_train=LABELS[:9], x_test=IMAGES, y_test=LABELS
    ),
    "one file with a training part": lambda: (
        np.savez("d.npz", train_x=IMAGES[:9], train_y=LABELS[:9], image=IMAGES, label=LABELS)
        or "d.npz"
    ),
    "labels in a pattern": lambda: _save("d", fog=IMAGES, labels=np.arange(50) % 2),
    "one of the files": lambda: _save("d", x=IMAGES, y=LABELS, other=IMAGES[:9]) / "x.npy",
}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_pair_is_evaluated_as_a_test_split(kind: str, checkpoint, call, accuracy) -> None:
    place = PAIRS[kind]()
    status, out, err = call("evaluate", checkpoint, "--data_dir", place, "--json")
    assert (status, "left out, as they are for training: " in err) == (0, "training" in kind)
    found = json.loads(out)
    labels = np.arange(50) % 2 if "pattern" in kind else LABELS
    assert found["accuracy"] == pytest.approx(accuracy(IMAGES, labels))
    assert (found["split"], found["images"], found["data"]["source"]) == ("test", 50, "arrays")
    assert Path(found["figure"]).is_file()


def test_several_pairs_are_rows(checkpoint, call) -> None:
    for version, count in (("v4", 20), ("v6", 30)):
        pair = {"data": IMAGES[:count], "labels": LABELS[:count]}
        _save("d", **{f"cifar10_1_{version}_{name}": array for name, array in pair.items()})
    found = json.loads(call("evaluate", checkpoint, "--data_dir", "d", "--json")[1])
    rows = [(row["name"], row["severity"], row["images"]) for row in found["sets"]]
    assert rows == [("cifar10.1_v4_data", None, 20), ("cifar10.1_v6_data", None, 30)]


def test_large_files_stay_on_the_disk(checkpoint) -> None:
    model = load_model(checkpoint)
    sets = load_arrays(model, "test", str(_save("d", fog=IMAGES, labels=LABELS)), "auto")
    assert [type(one.images) for one in sets] == [np.memmap] * 5
    assert all(one.known(model).images.shape == (10, 3, 32, 32) for one in sets)


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: _save("d", fog=IMAGES), "fog.npy: no labels beside it; expected labels.npy"),
    (lambda: _save("d", a_data=IMAGES), "a_data.npy: no labels beside it; expected a_labels.npy"),
    (lambda: _save("d", labels=LABELS), "d: labels without images"),
    (lambda: _save("d", x=IMAGES / 255, y=LABELS), "x.npy: images float64 (50, 32, 32, 3); exp"),
    (lambda: _save("d", x=IMAGES[0], y=LABELS), "x.npy: images uint8 (32, 32, 3); expected uint8"),
    (lambda: _save("d", x=IMAGES[:0], y=LABELS), "x.npy: images uint8 (0, 32, 32, 3); expected"),
    (lambda: _save("d", x=IMAGES[:, ::2], y=LABELS), "x.npy: images uint8 (50, 16, 32, 3)"),
    (lambda: _save("d", x=IMAGES, y=LABELS[1:]), "x.npy: labels int64 (49,); expected an integer"),
    (lambda: _save("d", x=IMAGES, y=LABELS / 1), "x.npy: labels float64 (50,); expected an int"),
    (lambda: _save("d", x=IMAGES, y=LABELS + 1), "x.npy: label 3; expected 0 to 2"),
    (lambda: _save("d", x=IMAGES, y=LABELS - 1), "x.npy: label -1; expected 0 to 2"),
    (lambda: _save("d", x=np.array([{}]), y=LABELS), "x.npy: cannot be read"),
    (lambda: os.truncate(_save("d", x=IMAGES, y=LABELS) / "x.npy", 999), "x.npy: cannot be read"),
    (lambda: os.truncate(_save("d", x=IMAGES, y=LABELS) / "x.npy", 0), "x.npy: cannot be read"),
    (lambda: os.mkfifo(_save("d", y=LABELS) / "x.npy"), "x.npy: not a file"),
    (lambda: np.savez(_save("d") / "x.npz", fog=IMAGES), "x.npz: expected images and labels"),
    (lambda: Path(_save("d"), "x.npz").write_bytes(b"PK"), "x.npz: cannot be read"),
]


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_is_wrong_is_named(make: Callable[[], Any], said: str, checkpoint, refused) -> None:
    make()
    assert said in refused("evaluate", checkpoint, "--data_dir", "d")


def test_flags_that_have_no_meaning_are_refused(checkpoint, refused) -> None:
    words = ["evaluate", checkpoint, "--data_dir", _save("d", fog=IMAGES, labels=LABELS)]
    assert "--split val: d holds arrays" in refused(*words, "--split", "val")
    assert "--output x: no figure is drawn of several sets" in refused(*words, "--output", "x")
