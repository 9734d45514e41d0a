"""Image trees: read, cached, and refused with the name of what is wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_lab.data import cache
from cifar_lab.data.folder import decode_image, read_tree
from cifar_lab.data.image_set import ImageSet
from cifar_lab.errors import UserError


def _read(root: Path, verify: bool = False) -> tuple[ImageSet, list[str]]:
    """The tree, and what was reported: a line where it was decoded."""
    lines: list[str] = []
    return read_tree(root, verify, lines.append), lines


def test_a_tree_gives_its_pixels_by_class_and_name(tree: Path) -> None:
    images, _ = _read(tree)
    assert images.class_names == ("bird", "cat", "frog")
    assert images.train_images.shape == (120, 3, 32, 32)
    assert images.train_labels.tolist() == [0] * 40 + [1] * 40 + [2] * 40
    expected = np.asarray(Image.open(tree / "train" / "cat" / "0003.png")).transpose(2, 0, 1)
    assert np.array_equal(images.train_images[43], expected)
    assert (images.source, len(images.test_labels)) == ("folder", 45)


def test_a_tree_is_decoded_once(tree: Path) -> None:
    first, decoded = _read(tree)
    second, again = _read(tree)
    assert len(decoded) == 1
    assert again == []
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("change", ["touched", "resized", "added", "removed", "renamed class"])
def test_a_changed_tree_is_decoded_anew(tree: Path, change: str) -> None:
    _read(tree)
    image = tree / "train" / "bird" / "0000.png"
    if change == "touched":
        os.utime(image, (1, 1))
    elif change == "resized":
        image.write_bytes(image.read_bytes() + b"\0")
    elif change == "added":
        Image.new("RGB", (32, 32)).save(image.with_name("new.png"))
    elif change == "removed":
        image.unlink()
    else:
        for split in ("train", "test"):
            (tree / split / "bird").rename(tree / split / "owl")
    assert len(_read(tree)[1]) == 1


def test_verify_finds_a_change_that_kept_size_and_time(tree: Path) -> None:
    _read(tree)
    image = tree / "train" / "bird" / "0000.png"
    stat = image.stat()
    other = (tree / "train" / "bird" / "0001.png").read_bytes()
    image.write_bytes(other[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _read(tree)[1] == []  # size and time say nothing changed
    if len(other) <= stat.st_size:
        assert len(_read(tree, verify=True)[1]) == 1
    else:
        with pytest.raises(UserError, match="damaged image"):
            _read(tree, verify=True)


@pytest.mark.parametrize("content", [b"", b"not a zip file", None])
def test_a_broken_cache_is_rebuilt(tree: Path, content: bytes | None) -> None:
    expected = _read(tree)[0].fingerprint
    path = cache.cache_path(tree)
    if content is None:  # one flipped bit in the pixels
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    images, lines = _read(tree)
    assert len(lines) == 1
    assert images.fingerprint == expected


def test_a_cache_that_cannot_be_written_is_done_without(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "file"))
    images, lines = _read(tree)
    assert len(images.train_labels) == 120
    assert "cannot be written" in lines[-1]


def test_a_broken_image_is_named(tree: Path) -> None:
    image = tree / "test" / "frog" / "0002.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(UserError, match=r"frog.0002.png: damaged image"):
        _read(tree)
    assert not cache.cache_path(tree).exists()


def test_a_file_that_is_no_image_is_named(tree: Path) -> None:
    (tree / "train" / "cat" / "notes.png").write_text("no image")
    with pytest.raises(UserError, match=r"notes.png: not an image file"):
        _read(tree)


def test_an_image_of_another_size_is_named_with_its_size(tree: Path) -> None:
    Image.new("RGB", (64, 48)).save(tree / "train" / "cat" / "large.png")
    with pytest.raises(UserError, match=r"large.png: 64×48 pixels; expected 32×32"):
        _read(tree)


def test_a_class_missing_in_one_split_is_named(tree: Path) -> None:
    (tree / "test" / "frog").rename(tree / "frogs-elsewhere")
    with pytest.raises(UserError, match=r"class 'frog' is in train/ but not in test/"):
        _read(tree)


def test_a_class_without_images_is_named(tree: Path) -> None:
    for image in (tree / "train" / "cat").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"train.cat: no images"):
        _read(tree)


def test_a_tree_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        _read(tmp_path)


def test_hidden_and_other_files_are_passed_over(tree: Path) -> None:
    (tree / "train" / "cat" / ".hidden.png").write_text("")
    (tree / "train" / "cat" / "notes.txt").write_text("")
    (tree / "train" / ".git").mkdir()
    assert len(_read(tree)[0].train_labels) == 120


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_modes_of_pillow_become_rgb(mode: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (255, 255, 255)).convert(mode).save(tmp_path / "white.png")
    image = decode_image(str(tmp_path / "white.png"))
    assert image.shape == (3, 32, 32)
    assert image.min() == 255


def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, write_tree: Callable[..., Path], tmp_path: Path
) -> None:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "mine"))
    _read(write_tree())
    assert len(list((tmp_path / "mine" / "decoded").iterdir())) == 1  # and no temporary file
