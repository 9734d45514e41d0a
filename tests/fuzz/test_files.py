"""Damaged files of every kind: what was stored, or a UserError; never anything else.

Where a checksum would refuse nearly all of it, a second test writes it anew, so that the damage
reaches what is behind it.
"""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cifar_lab.data import cache, original
from cifar_lab.data.folder import read_tree
from cifar_lab.errors import UserError
from cifar_lab.experiments.study import Study
from cifar_lab.inference.images import read_image
from cifar_lab.models import MLP
from cifar_lab.plan import Plan
from cifar_lab.run.checkpoint import weights_file
from cifar_lab.run.metrics import read_rows
from cifar_lab.run.restore import load_model
from cifar_lab.run.run import Run
from cifar_lab.run.summary import hardware

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3000)]

FUZZ = settings.get_profile("fuzz")


def _read(read: Callable[[], Any], path: Path) -> Any:
    """What was read, or None after a UserError that names the file."""
    try:
        return read()
    except UserError as error:
        message = str(error)
    assert str(path) in message
    return None


def _encoded(kind: str, height: int, width: int) -> bytes:
    """An image of noise."""
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, kind)
    return encoded.getvalue()


@FUZZ
@given(data=st.data())
def test_a_batch_file(data, mutated, data_of_one: Path) -> None:
    path = data_of_one / original.FOLDER_NAME / "data_batch_2"
    content = path.read_bytes()
    damaged = data.draw(mutated(content))
    path.write_bytes(damaged)
    try:
        found = _read(lambda: original.read_folder(path.parent), path)
    finally:
        path.write_bytes(content)
    assert (found is not None) == (damaged == content)


@FUZZ
@given(data=st.data())
def test_an_archive(data, mutated, data_of_one: Path) -> None:
    path = data_of_one / original.ARCHIVE_NAME
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(data_of_one / original.FOLDER_NAME, original.FOLDER_NAME)
    content = gzip.compress(packed.getvalue(), compresslevel=1, mtime=0)
    damaged = data.draw(mutated(content))
    path.write_bytes(damaged)
    cache.cache_path(path).unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, "ARCHIVE_MD5", original.md5(content))
        found = _read(lambda: original.read_archive(path), path)
    assert (found is not None) == (damaged == content)


@pytest.fixture
def data_of_one(write_original: Callable[..., Path]) -> Path:
    """One image a file."""
    return write_original(per_file=1)


@FUZZ
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG"]))
def test_an_image_of_a_tree(data, kind: str, mutated, small_tree: Path) -> None:
    path = small_tree / "train" / "cat" / "0000.png"
    path.write_bytes(data.draw(mutated(_encoded(kind, 32, 32))))
    found = _read(lambda: read_tree(small_tree, True, lambda _: None), path)
    if found is not None:
        assert (found.train_images.shape, found.train_images.dtype) == ((2, 3, 32, 32), np.uint8)
        assert (found.train_labels.tolist(), found.train_labels.dtype) == ([0, 1], np.int64)
    _read(lambda: read_image(path), path)


@FUZZ
@given(data=st.data(), kind=st.sampled_from(["GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA"]))
def test_a_picture_to_predict(data, kind: str, mutated) -> None:
    try:
        content = _encoded(kind, 40, 50)
    except (KeyError, OSError):  # a Pillow that was built without
        return
    path = Path(f"picture.{kind.lower()}")
    path.write_bytes(data.draw(mutated(content)))
    found = _read(lambda: read_image(path), path)
    if found is not None:
        assert (found.shape, found.dtype) == ((3, 32, 32), np.uint8)


@FUZZ
@given(data=st.data(), verify=st.booleans())
def test_a_cache(data, verify: bool, mutated, small_tree: Path) -> None:
    path = cache.cache_path(small_tree)
    path.unlink(missing_ok=True)
    whole = read_tree(small_tree, verify, lambda _: None)
    path.write_bytes(data.draw(mutated(path.read_bytes())))
    found = read_tree(small_tree, verify, lambda _: None)  # rebuilt where it was broken
    assert (found.fingerprint, found.class_names) == (whole.fingerprint, whole.class_names)


@pytest.fixture
def small_tree(write_tree: Callable[..., Path]) -> Path:
    """Two classes, one image of each in a split."""
    return write_tree(classes=("bird", "cat"), train=1, test=1)


@FUZZ
@given(data=st.data())
def test_a_checkpoint(data, mutated, small_checkpoint: Path) -> None:
    whole = load_model(small_checkpoint).state_dict()
    path = small_checkpoint.with_name("damaged.ckpt")
    path.write_bytes(data.draw(mutated(small_checkpoint.read_bytes())))
    found = _read(lambda: load_model(path).state_dict(), path)
    if found is not None:
        assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())


@FUZZ
@given(data=st.data())
def test_exported_weights(data, mutated, small_checkpoint: Path) -> None:
    path = small_checkpoint.with_name("damaged.safetensors")
    model = load_model(small_checkpoint)
    content = weights_file(model.state_dict(), dict(model.hparams), model.origin)
    path.write_bytes(data.draw(mutated(content)))
    found = _read(lambda: load_model(path), path)  # there are no checksums
    if found is not None:
        assert all(map(torch.is_tensor, found.state_dict().values()))


@FUZZ
@given(data=st.data(), part=st.sampled_from(["data.pkl", "version", "byteorder", "data/0"]))
def test_a_checkpoint_whose_checksums_hold(data, part: str, mutated, small_checkpoint) -> None:
    path = small_checkpoint.with_name("damaged.ckpt")
    with zipfile.ZipFile(small_checkpoint) as whole, zipfile.ZipFile(path, "w") as damaged:
        for name in whole.namelist():
            content = whole.read(name)
            content = data.draw(mutated(content)) if name.endswith(f"/{part}") else content
            damaged.writestr(name, content)
    model = _read(lambda: load_model(path), path)
    if model is not None:
        assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 2)


@pytest.fixture
def small_checkpoint(write_model: Callable[..., Path]) -> Path:
    """A checkpoint of a network with one hidden unit."""
    return write_model(MLP(hidden_units=[1], num_classes=2, normalization="standardize"))


@FUZZ
@given(data=st.data())
def test_a_table_of_curves(data, mutated) -> None:
    table = b"step,epoch,loss/train,acc/val\n1,0.0,2.5,\n20,1.0,2.25,0.5\n30,1.0,2.0,0.75\n"
    folder = Path("logs/mlp/version_0")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").touch()
    path = folder / "metrics.csv"
    path.write_bytes(data.draw(mutated(table)))
    if _read(lambda: read_rows(path), path) is not None:
        for steps, values in Run.open(folder).curves.values():
            assert (steps.dtype, values.dtype, len(steps)) == (np.int64, np.float64, len(values))


@FUZZ
@given(data=st.data())
def test_a_summary(data, mutated, write_summary) -> None:
    plan = Plan.of("mlp", log_dir="logs")
    folder = Path("logs/mlp/version_0")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(plan.as_yaml())
    write_summary(folder)
    whole = (folder / "summary.json").read_bytes()
    nested = b'{"steps": 1e999, "data": ' + 2000 * b"[" + 2000 * b"]" + b"}"
    content = data.draw(mutated(whole) | st.just(nested))
    (folder / "summary.json").write_bytes(content)
    run = _read(lambda: Study({"": plan}, [0], "test").find(plan, "a"), folder)
    if run is not None:
        assert hardware(run.summary)
        assert all(isinstance(seconds, int | float) for seconds in run.summary["seconds"].values())
