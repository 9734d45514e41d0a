"""``cifar-lab export``: its files compute what the model does, or they are not kept."""

import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_lab.cli import main
from cifar_lab.inference import export as export_module
from cifar_lab.inference.export import FORMATS, IR_VERSION, OPSET, export, traceable
from cifar_lab.inference.export_check import TOLERANCE, Difference, batch_sizes, difference
from cifar_lab.models import CNN, REGISTRY, ImageClassifier
from cifar_lab.run.restore import load_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CLASSES = ["bird", "cat", "frog"]


def _images(count: int, seed: int = 7) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 32, 32), generator=rng, dtype=torch.uint8)


def _lively(model: ImageClassifier) -> ImageClassifier:
    """Statistics and weights as after training: no two the same, so that none may be left out."""
    rng = torch.Generator().manual_seed(0)
    model.normalize.fill(
        torch.rand(model.normalize.mean.shape, generator=rng) * 255,
        torch.rand(model.normalize.std.shape, generator=rng) * 50 + 30,
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                for values in (module.running_mean, module.running_var, module.weight, module.bias):
                    values.copy_(torch.rand(values.shape, generator=rng) + 0.2)
    model.class_names = tuple(CLASSES)
    return model.eval()


def _onnx_logits(path: Path | str, images: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images.numpy()})[0]


def _export(checkpoint: Path, *flags: str) -> int:
    return main(["export", str(checkpoint), *flags])


def _run_files(checkpoint: Path) -> set[str]:
    return {path.name for path in checkpoint.parent.iterdir()}


def test_both_files_compute_what_the_model_does(checkpoint, call) -> None:
    before = _run_files(checkpoint)
    status, printed, err = call("export", checkpoint.parent.parent)  # its best checkpoint
    assert (status, err) == (0, "")
    assert "opset 18, IR version 8, " in printed
    assert "input   images, uint8 (batch, 3, 32, 32)" in printed
    assert "output  logits, float32 (batch, 3)" in printed
    assert _run_files(checkpoint) == before | {"best.onnx", "best.pt2"}
    model = load_model(checkpoint, "cpu")
    extra = {"class_names.json": ""}
    program = torch.export.load(checkpoint.with_suffix(".pt2"), extra_files=extra).module()
    assert json.loads(extra["class_names.json"]) == CLASSES
    for count in (3, 40):  # sizes that the command does not try
        images = _images(count)
        with torch.no_grad():
            expected = model(images)
            torch.testing.assert_close(program(images), expected, rtol=1e-5, atol=1e-5)
        found = _onnx_logits(checkpoint.with_suffix(".onnx"), images)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
    root = os.fsencode(Path(export_module.__file__).parents[2])
    for suffix in (".onnx", ".pt2"):  # no folder of this machine
        assert root not in checkpoint.with_suffix(suffix).read_bytes()


def test_the_onnx_file_says_what_it_takes_and_gives(checkpoint) -> None:
    assert _export(checkpoint, "--format", "onnx") == 0
    path = checkpoint.with_suffix(".onnx")
    content = onnx.load(path)
    onnx.checker.check_model(content)
    assert [(entry.domain, entry.version) for entry in content.opset_import] == [("", OPSET)]
    assert content.ir_version == IR_VERSION  # with no field of a newer one, but the class names
    assert str(content).count("metadata_props") == 1
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = [(v.name, v.type, v.shape) for v in (*session.get_inputs(), *session.get_outputs())]
    assert values == [
        ("images", "tensor(uint8)", ["batch", 3, 32, 32]),
        ("logits", "tensor(float)", ["batch", 3]),
    ]
    names = session.get_modelmeta().custom_metadata_map["class_names"]
    assert json.loads(names) == CLASSES


def test_json_is_alone_on_stdout(checkpoint, json_of) -> None:
    output = Path("new/folder")
    before, filters = _run_files(checkpoint), warnings.filters[:]
    facts = json_of("export", checkpoint, "--output", output)
    assert _run_files(checkpoint) == before
    assert warnings.filters == filters
    assert {path.name for path in output.iterdir()} == {"best.onnx", "best.pt2"}
    assert facts["class_names"] == CLASSES
    assert facts["input"] == {"name": "images", "dtype": "uint8", "shape": ["batch", 3, 32, 32]}
    assert facts["output"] == {"name": "logits", "dtype": "float32", "shape": ["batch", 3]}
    names = [str(output / "best.onnx"), str(output / "best.pt2")]
    assert [file["path"] for file in facts["files"]] == names
    kinds = [(file["opset"], file["ir_version"]) for file in facts["files"]]
    assert kinds == [(OPSET, IR_VERSION), (None, None)]
    for file in facts["files"]:
        assert file["bytes"] == Path(file["path"]).stat().st_size
        assert 0 <= file["relative_difference"] < 1e-5


def _assert_computes(path: Path, model: ImageClassifier) -> None:
    images = _images(4)
    with torch.no_grad():
        expected = model(images).numpy()
    scale = abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(_onnx_logits(path, images), expected, atol=1e-5 * scale)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_model_exports(name: str, tmp_path) -> None:
    small = {"hidden_units": [8, 6], "widths": [4, 4], "width": 8, "blocks": 2}
    known = inspect.signature(REGISTRY[name]).parameters
    settings = {setting: value for setting, value in small.items() if setting in known}
    model = _lively(REGISTRY[name](**settings, num_classes=3))
    for file in export(model, tmp_path / f"{name}.ckpt", FORMATS):
        assert file.difference.relative < 1e-5, file
    _assert_computes(tmp_path / f"{name}.onnx", model)


def test_batch_normalization_by_hand_exports(tmp_path) -> None:
    model = _lively(CNN(batchnorm="manual", num_classes=3))
    native = _lively(CNN(num_classes=3))
    native.load_state_dict(model.state_dict())
    export(model, tmp_path / "x.ckpt", ["onnx"])
    _assert_computes(tmp_path / "x.onnx", native)


def test_the_model_itself_is_left_as_it_is(tmp_path) -> None:
    model = _lively(CNN(num_classes=3))
    strides = [parameter.stride() for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    changed = traceable(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.zero_()
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("onnx", lambda model: model.network[-1].bias[0].add_(0.05)),
        ("torch", lambda model: model.normalize.mean.add_(1)),
        ("both", lambda model: model.network[-1].bias[0].fill_(nan)),
        ("torch", lambda model: model.network[-1].bias[0].fill_(nan)),
    ],
)
def test_a_file_that_differs_is_not_kept(name, change, checkpoint, monkeypatch, call) -> None:
    @torch.no_grad()
    def spoiled(model: ImageClassifier) -> ImageClassifier:
        changed = traceable(model)
        change(changed)
        return changed

    before = _run_files(checkpoint)
    monkeypatch.setattr(export_module, "traceable", spoiled)
    status, printed, errors = call("export", checkpoint, "--format", name, "--json")
    assert (status, printed) == (1, "")
    assert "differs from the model: largest difference" in errors
    assert errors.count("\n") == 1
    assert _run_files(checkpoint) == before


def test_a_defect_of_one_format_keeps_all_older_files(checkpoint, monkeypatch) -> None:
    checkpoint.with_suffix(".onnx").write_text("older")
    run = FORMATS["torch"].run
    defect = export_module.Format(".pt2", FORMATS["torch"].write, lambda p: lambda x: run(p)(x) + 1)
    monkeypatch.setitem(FORMATS, "torch", defect)
    before = _run_files(checkpoint)
    assert _export(checkpoint) == 1
    assert _run_files(checkpoint) == before
    assert checkpoint.with_suffix(".onnx").read_text() == "older"


def test_every_batch_size_is_compared(checkpoint) -> None:
    model = load_model(checkpoint, "cpu")
    for wrong in batch_sizes(64):
        found = difference(model, lambda x, n=wrong: model(x) + (len(x) == n))
        assert found.absolute == pytest.approx(1, rel=1e-5)
        assert not found.tolerable
    assert difference(model, model) == Difference(0, 0)


@pytest.mark.parametrize(
    "run",
    [
        lambda logits: logits[:, :1],  # would broadcast
        lambda logits: logits.double(),
        lambda logits: logits * nan,
        lambda logits: logits * (1 + 3 * TOLERANCE),
    ],
)
def test_what_is_not_tolerable(checkpoint, run: Callable[[Tensor], Tensor]) -> None:
    model = load_model(checkpoint, "cpu")
    assert not difference(model, lambda images: run(model(images))).tolerable
    assert difference(model, lambda images: model(images) * (1 + TOLERANCE / 3)).tolerable
    assert TOLERANCE == 0.0001  # docs/trained_models.md


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(package: str, checkpoint, monkeypatch, refused) -> None:
    before = _run_files(checkpoint)
    monkeypatch.setitem(sys.modules, package, None)
    assert refused("export", checkpoint) == (
        f"cifar-lab export: the ONNX format needs the package {package}: "
        "pip install 'cifar_lab[export]' (or choose --format torch)\n"
    )
    assert _run_files(checkpoint) == before
    assert _export(checkpoint, "--format", "torch") == 0


def test_a_folder_that_cannot_be_written_is_named(checkpoint, refused) -> None:
    Path("file").touch()
    assert "file: cannot be written" in refused("export", checkpoint, "--output", "file")


def test_a_checkpoint_is_never_overwritten(checkpoint, refused) -> None:
    path = checkpoint.rename(checkpoint.with_suffix(".pt2"))
    content = path.read_bytes()
    assert "would be overwritten" in refused("export", path)
    assert path.read_bytes() == content
    assert _export(path, "--format", "onnx") == 0
