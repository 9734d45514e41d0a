"""A model from its checkpoint alone, and what is said of files that are none."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lab.errors import UserError
from cifar_lab.inference.restore import load_classifier


def _changed(checkpoint: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    content = change(content) or content
    path = checkpoint.with_name("changed.ckpt")
    torch.save(content, path)
    return path


def test_the_model_is_whole_and_ready(checkpoint: Path) -> None:
    model = load_classifier(checkpoint)
    assert not model.training
    assert model.class_names == ("bird", "cat", "frog")
    assert model.normalize.filled
    assert model.data["val_size"] == 12
    assert model.data["source"] == "folder"
    assert model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 3)


def test_the_folder_of_a_run_means_its_best_checkpoint(checkpoint: Path) -> None:
    run = checkpoint.parent.parent
    weights = load_classifier(checkpoint).state_dict()
    for path in (run, run / "checkpoints"):
        for name, tensor in load_classifier(path).state_dict().items():
            assert torch.equal(tensor, weights[name])
    os.rename(checkpoint, checkpoint.with_name("last.ckpt"))
    load_classifier(run)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.ckpt: no such checkpoint"):
        load_classifier("none.ckpt")
    with pytest.raises(UserError, match=r"no checkpoints/best\.ckpt"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 1000, -100])
def test_truncated_files(checkpoint: Path, size: int) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    with pytest.raises(UserError, match=r"damaged|not a checkpoint"):
        load_classifier(checkpoint)


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 5000, b"PK\x03\x04 and so on"])
def test_files_that_are_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a checkpoint"):
        load_classifier(path)


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    torch.save({"state_dict": _Payload(tmp_path / "mark")}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="safe to read"):
        load_classifier(tmp_path / "x.ckpt")
    assert not (tmp_path / "mark").exists()


def _set(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["cifar_lab"].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: [1, 2], "not a checkpoint of cifar_lab"),
        (lambda content: {"weights": 1}, "not a checkpoint of cifar_lab"),
        (lambda content: content.pop("cifar_lab") and None, "from before"),
        (_set(format=99, version="9.9"), "format 99 of cifar_lab 9.9"),
        (_set(model="Transformer"), "'Transformer'"),
        (lambda content: content["hyper_parameters"].update(hidden_units=[5]), "does not fit"),
        (lambda content: content["hyper_parameters"].update(wings=2), "does not fit"),
        (lambda content: content["state_dict"].popitem() and None, "does not fit"),
    ],
)
def test_foreign_and_altered_content(checkpoint: Path, change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_classifier(_changed(checkpoint, change))


def test_weights_that_are_not_finite_are_named(checkpoint: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        name = next(name for name in content["state_dict"] if name.startswith("network"))
        content["state_dict"][name].view(-1)[0] = float("nan")

    with pytest.raises(UserError, match=r"not finite: network\."):
        load_classifier(_changed(checkpoint, spoil))
