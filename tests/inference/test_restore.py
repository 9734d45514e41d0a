"""A model from its checkpoint alone, and what is said of files that are none."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lab.errors import UserError
from cifar_lab.inference.restore import load_classifier
from cifar_lab.models import REGISTRY
from cifar_lab.models.classifier import CHECKPOINT_FORMAT, ImageClassifier


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


def test_what_lightning_loads_runs_no_code_either(tmp_path: Path) -> None:
    torch.save({"state_dict": _Payload(tmp_path / "mark")}, tmp_path / "x.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        REGISTRY["mlp"].load_from_checkpoint(tmp_path / "x.ckpt")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["pipe", "device", "folder", "loop"])
def test_what_is_no_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    make = {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": lambda: (path / "best.ckpt").mkdir(parents=True),
        "loop": lambda: path.symlink_to(path),
    }
    make[name]()
    with pytest.raises(UserError, match=r"not a file|no checkpoints/|no such checkpoint"):
        load_classifier(path)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x.ckpt").open("wb") as file:
        file.truncate(2**33)  # a hole: no bytes on the disk
    with pytest.raises(UserError, match=r"too large .* at most 4,294,967,296 are read"):
        load_classifier(tmp_path / "x.ckpt")


def test_a_compressed_file_is_refused(checkpoint: Path) -> None:
    def fill(content: dict[str, Any]) -> None:
        content["state_dict"]["zeros"] = torch.zeros(10**7)

    path = _changed(checkpoint, fill)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    with pytest.raises(UserError, match="it is compressed"):
        load_classifier(path)


def test_one_changed_bit_of_a_weight_is_noticed(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as file:
        largest = max(file.infolist(), key=lambda part: part.file_size)
    content[largest.header_offset + largest.file_size // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged \(.*/data/\d+ inside is not as it was written"):
        load_classifier(checkpoint)


def _nested(depth: int) -> list:
    """Few lists, of which 2 to the power of ``depth`` would be printed."""
    lists: list = []
    for _ in range(depth):
        lists = [lists, lists]
    return lists


def _set(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["cifar_lab"].update(values)


def _hyper(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["hyper_parameters"].update(values)


ALTERED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (_set(format=99), "format 99 .* reads format 1. Update cifar_lab"),
    (_set(format=0), "format 0 .* reads format 1. Train the model again"),
    (_set(format="\x1b[2J"), r"format '\\x1b\[2J'"),
    (_set(model=["MLP"]), "which is none of"),
    (_set(class_names=[1, 2, 3]), "altered .class names"),
    (_set(class_names=["a"]), "altered .1 names of 3 classes"),
    (_set(data=[]), "altered .data"),
    (_set(data={"val_size": "12"}), "altered .data val_size 12"),
    (lambda content: content.pop("hyper_parameters") and None, "altered"),
    (lambda content: content.update(state_dict=[1]), "altered"),
    (_hyper(hidden_units=[10**9]), "altered .weights of 12,300,0"),
    (_hyper(hidden_units=[8, 10**9, 3]), "altered .weights of"),
    (_hyper(num_classes=10**12), "altered .weights of"),
    (_hyper(hidden_units="8"), "does not fit|altered"),
    (_hyper(hidden_units=[[8]]), "altered .setting hidden_units"),
    (_hyper(hidden_units=["x"]), "altered .sizes"),
    (_hyper(hidden_units=[float("inf")]), "altered .sizes"),
    (_hyper(num_classes="three"), "altered .sizes"),
    (_set(class_names=["a\x1b[2J", "b", "c"]), "altered .class names"),
    (_set(data={"val_size": -1}), "altered .data val_size -1"),
    (_set(format=_nested(40)), r"checkpoint format \[\[\[.*\.\.\."),
    (_set(format=OrderedDict(a=_nested(40))), "checkpoint format .OrderedDict"),
    (_hyper(optimizer=_nested(40)), "altered .setting optimizer"),
    (lambda content: content["state_dict"].update(x=1), "altered .weights that are no tensors"),
    (lambda content: content["state_dict"].update(x=torch.zeros(1).expand(10**12)), "altered"),
]


def test_each_alteration_is_told_from_the_others(checkpoint: Path) -> None:
    for change, said in ALTERED:
        with pytest.raises(UserError, match=said) as caught:
            load_classifier(_changed(checkpoint, change))
        assert str(caught.value).isprintable()


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
        (lambda content: content["hyper_parameters"].update({3: 2}), "does not fit"),
        (lambda content: content["state_dict"].popitem() and None, "does not fit"),
    ],
)
def test_foreign_and_altered_content(checkpoint: Path, change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_classifier(_changed(checkpoint, change))


def test_the_parameter_that_does_not_fit_is_named(checkpoint: Path) -> None:
    change = lambda content: content["state_dict"].popitem() and None  # noqa: E731
    with pytest.raises(UserError, match=r'Missing key.*"network\.'):
        load_classifier(_changed(checkpoint, change))


def test_a_checkpoint_of_a_compiled_network_is_read(checkpoint: Path) -> None:
    def compiled(content: dict[str, Any]) -> None:  # the names that torch.compile(network) gives
        state = content["state_dict"]
        for key in [key for key in state if key.startswith("network.")]:
            state[key.replace("network.", "network._orig_mod.")] = state.pop(key)

    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = load_classifier(checkpoint)(images)
    assert torch.equal(load_classifier(_changed(checkpoint, compiled))(images), expected)


def _saved(model: ImageClassifier, **settings: Any) -> Path:
    """A checkpoint of a model, whose settings may say something else."""
    origin = {"format": CHECKPOINT_FORMAT, "model": type(model).__name__}
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": {**model.hparams, **settings},
        "cifar_lab": {**origin, "class_names": ["bird", "cat"], "data": {}},
    }
    torch.save(content, "saved.ckpt")
    return Path("saved.ckpt")


SMALL = {
    "fast_mlp": {"components": 4, "width": 4, "blocks": 1, "expansion": 1},
    "fast_cnn": {"widths": [4]},
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fast_mlp", {"blocks": 10**9}),
        ("fast_mlp", {"width": 20_000}),
        ("fast_mlp", {"expansion": 10**6}),
        ("fast_cnn", {"widths": [4000, 4000]}),
        ("cnn", {"num_classes": 10**6}),
    ],
)
def test_settings_of_larger_layers_than_the_file_has_cost_no_memory(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _saved(REGISTRY[name](num_classes=2, **SMALL.get(name, {})), **settings)
    drawn, draw = [], torch.nn.init.kaiming_uniform_

    def note(tensor: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        drawn.append(tensor.numel())
        return draw(tensor, *given, **named)

    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", note)
    with pytest.raises(UserError, match=r"more weights than the file has|altered"):
        load_classifier(path)
    assert sum(drawn) <= 4 * path.stat().st_size


@pytest.mark.parametrize("name", REGISTRY)
def test_half_precision_takes_half_the_bytes(name: str) -> None:
    model = REGISTRY[name](num_classes=2, **SMALL.get(name, {}))
    assert load_classifier(_saved(model.bfloat16())).num_classes == 2


@pytest.mark.parametrize("path", ["x" * 300, "~nobody_here/run"])
def test_what_cannot_be_a_path_is_said(path: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_classifier(path)


def test_weights_that_are_not_finite_are_named(checkpoint: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        name = next(name for name in content["state_dict"] if name.startswith("network"))
        content["state_dict"][name].view(-1)[0] = float("nan")

    with pytest.raises(UserError, match=r"not finite: network\."):
        load_classifier(_changed(checkpoint, spoil))
