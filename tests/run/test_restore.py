"""A model is restored from its checkpoint alone; damaged and foreign files are refused."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from cifar_lab.errors import UserError
from cifar_lab.models import REGISTRY
from cifar_lab.run.checkpoint import find_checkpoint
from cifar_lab.run.restore import load_model


def _changed(checkpoint: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    path = checkpoint.with_name("changed.ckpt")
    torch.save(change(content) or content, path)
    return path


def test_the_model_is_whole_and_ready(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    assert not model.training
    assert model.class_names == ("bird", "cat", "frog")
    assert model.normalize.filled
    assert model.data["val_size"] == 12
    assert model.data["source"] == "folder"
    assert model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 3)


def test_the_folder_of_a_run_means_its_best_checkpoint(checkpoint: Path) -> None:
    run, last = checkpoint.parent.parent, checkpoint.with_name("last.ckpt")
    for path in (run, run / "checkpoints"):
        assert find_checkpoint(path) == checkpoint
    checkpoint.rename(last)
    assert find_checkpoint(run) == last


def test_a_folder_of_runs_names_the_newest_that_has_a_checkpoint() -> None:
    for version in (2, 9, 10):
        Path(f"logs/mlp/version_{version}/checkpoints").mkdir(parents=True)
        Path(f"logs/mlp/version_{version}/checkpoints/last.ckpt").touch()
    Path("logs/mlp/version_11").mkdir()  # it has just begun
    for place in ("logs/mlp", "logs"):
        with pytest.raises(UserError, match=rf"^{place}: .*, such as logs/mlp/version_10$"):
            find_checkpoint(Path(place))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.ckpt", r"none\.ckpt: no such checkpoint"),
        (".", r"no checkpoints/best\.ckpt"),
        ("x" * 300, "cannot be read"),
        ("~nobody_here/run", "cannot be read"),
        ("pipe", "not a file"),
        ("device", "not a file"),
        ("folder", "no checkpoints/"),
        ("loop", "no such checkpoint"),
        ("large", r"too large .* at most 4,294,967,296 are read"),
        ("text", "damaged or not a checkpoint"),
        ("zeros", "damaged or not a checkpoint"),
        ("archive", "damaged or not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused_at_once(path: str, said: str) -> None:
    contents = {"text": b"hello", "zeros": bytes(5000), "archive": b"PK\x03\x04 and so on"}
    for name, content in contents.items():
        Path(name).write_bytes(content)
    os.mkfifo("pipe")
    Path("device").symlink_to("/dev/zero")
    Path("folder/best.ckpt").mkdir(parents=True)
    Path("loop").symlink_to("loop")
    with open("large", "wb") as file:
        file.truncate(2**33)  # a hole: no bytes on the disk
    with pytest.raises(UserError, match=said):
        load_model(path)


class _Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("mark",)


def test_a_pickle_runs_no_code() -> None:
    torch.save({"state_dict": _Payload()}, "x.ckpt")
    with pytest.raises(UserError, match="safe to read"):
        load_model("x.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        REGISTRY["mlp"].load_from_checkpoint("x.ckpt")
    assert not Path("mark").exists()


def test_a_compressed_file_is_refused(checkpoint: Path) -> None:
    path = _changed(checkpoint, _weights(zeros=torch.zeros(10**7)))
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    with pytest.raises(UserError, match="it is compressed"):
        load_model(path)


def test_one_changed_bit_of_a_weight_is_noticed(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged \(.*/data/\d+ inside is not as it was written"):
        load_model(checkpoint)


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


def _weights(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["state_dict"].update(values)


ALTERED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (_set(format=99), "format 99 .* reads the formats 1 and 2. Update cifar_lab"),
    (_set(format=0), "format 0 .* reads the formats 1 and 2. Train the model again"),
    (_set(format="\x1b[2J"), r"format '\\x1b\[2J'"),
    (_set(model=["MLP"]), "which is not one of"),
    (_set(class_names=[1, 2, 3]), "altered .class names"),
    (_set(class_names=["a"]), "altered .1 names for 3 classes"),
    (_set(data=[]), "altered .data"),
    (_set(data={"val_size": "12"}), "altered .data val_size 12"),
    (lambda content: content.pop("hyper_parameters") and None, "altered"),
    (lambda content: content.update(state_dict=[1]), "altered"),
    (_hyper(hidden_units=[10**5]), "does not fit .*settings ask for more weights than the file"),
    (_hyper(hidden_units=[8, 10**9, 3]), "does not fit"),
    (_hyper(num_classes=10**12), "does not fit"),
    (_hyper(hidden_units="8"), "does not fit|altered"),
    (_hyper(hidden_units=[[8]]), "altered .setting hidden_units"),
    (_hyper(hidden_units=["x"]), "does not fit"),
    (_hyper(hidden_units=[float("inf")]), "does not fit"),
    (_hyper(num_classes="three"), "does not fit"),
    (_set(class_names=["a\x1b[2J", "b", "c"]), "altered .class names"),
    (_set(data={"val_size": -1}), "altered .data val_size -1"),
    (_set(format=_nested(40)), r"checkpoint format \[\[\[.*\.\.\."),
    (_set(format=OrderedDict(a=_nested(40))), "checkpoint format .OrderedDict"),
    (_hyper(optimizer=_nested(40)), "altered .setting optimizer"),
    (_weights(x=1), "altered .weights that are not tensors"),
    (_weights(x=torch.zeros(1).expand(10**12)), "altered"),
    (_weights(**{"network.1.bias": torch.full((8,), torch.nan)}), r"not finite: network\.1\.bias"),
    (lambda content: [1, 2], "not a checkpoint of cifar_lab"),
    (lambda content: {"weights": 1}, "not a checkpoint of cifar_lab"),
    (lambda content: content.pop("cifar_lab") and None, "older than its format 1"),
    (_set(format=99, version="9.9"), "format 99 of cifar_lab 9.9"),
    (_set(model="Transformer"), "'Transformer'"),
    (_hyper(hidden_units=[5]), "does not fit"),
    (_hyper(wings=2), "does not fit"),
    (lambda content: content["hyper_parameters"].update({3: 2}), "does not fit"),
    (lambda content: content["state_dict"].popitem() and None, r'does not .*Missing .*"network\.'),
]


def test_foreign_and_altered_content_is_told_in_a_line(checkpoint: Path) -> None:
    for change, said in ALTERED:
        with pytest.raises(UserError, match=said) as caught:
            load_model(_changed(checkpoint, change))
        assert str(caught.value).isprintable()


def test_a_checkpoint_of_a_compiled_network_is_read(checkpoint: Path) -> None:
    def compiled(content: dict[str, Any]) -> None:  # the names that torch.compile(network) gives
        state = content["state_dict"]
        for key in [key for key in state if key.startswith("network.")]:
            state[f"network._orig_mod.{key[8:]}"] = state.pop(key)

    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = load_model(checkpoint)(images)
    assert torch.equal(load_model(_changed(checkpoint, compiled))(images), expected)


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
def test_larger_layers_than_the_file_has_cost_no_memory(name, settings, write_model, monkeypatch):
    path = write_model(REGISTRY[name](num_classes=2, **SMALL.get(name, {})), **settings)
    draw = Mock(wraps=torch.nn.init.kaiming_uniform_)
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", draw)
    with pytest.raises(UserError, match=r"more weights than the file has|altered"):
        load_model(path)
    assert sum(call.args[0].numel() for call in draw.mock_calls) <= 4 * path.stat().st_size


@pytest.mark.parametrize("name", REGISTRY)
def test_half_precision_takes_half_the_bytes(name: str, write_model) -> None:
    model = REGISTRY[name](num_classes=2, **SMALL.get(name, {}))
    assert load_model(write_model(model.bfloat16())).num_classes == 2
