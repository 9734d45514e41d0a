"""Image trees: read, cached, and refused with the name of what is wrong."""

import dataclasses
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from cifar_lab.data import cache, folder, sources
from cifar_lab.data.folder import decode_image
from cifar_lab.data.image_set import ImageSet
from cifar_lab.errors import UserError
from cifar_lab.inference.images import find_images, read_image

Change = Callable[[Path], Any]
IMAGE = "train/bird/0000.png"


def _read(root: Path, verify: bool = False) -> tuple[ImageSet, list[str]]:
    """The tree, and what was reported: a line where it was decoded."""
    lines: list[str] = []
    return sources.load(root, "cifar10", verify=verify, report=lines.append), lines


def test_a_tree_gives_all_its_pixels_by_class_and_name(tree, monkeypatch) -> None:
    monkeypatch.setattr(folder, "BLOCK", 7)  # images that a thread decodes at a time
    images, _ = _read(tree)
    assert (images.source, images.class_names) == ("folder", ("bird", "cat", "frog"))
    assert images.train_labels.tolist() == [0] * 40 + [1] * 40 + [2] * 40
    for split, pixels in (("train", images.train_images), ("test", images.test_images)):
        for file, found in zip(sorted((tree / split).glob("*/*")), pixels, strict=True):
            assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), found), file


CHANGES: dict[str, Change] = {  # of a tree
    "touched": lambda tree: os.utime(tree / IMAGE, (1, 1)),
    "resized": lambda tree: (tree / IMAGE).write_bytes((tree / IMAGE).read_bytes() + b"\0"),
    "added": lambda tree: Image.new("RGB", (32, 32)).save(tree / "train/bird/new.png"),
    "removed": lambda tree: (tree / IMAGE).unlink(),
    "renamed class": lambda tree: [x.rename(x.with_name("owl")) for x in tree.glob("*/bird")],
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_tree_is_decoded_once_and_anew_when_it_changes(tree, kind: str) -> None:
    first, decoded = _read(tree)
    second, again = _read(tree)
    assert (len(decoded), len(again)) == (1, 0)
    assert first.fingerprint == second.fingerprint
    CHANGES[kind](tree)
    assert len(_read(tree)[1]) == 1


def test_verify_finds_a_change_that_kept_size_and_time(tree, monkeypatch) -> None:
    monkeypatch.setattr(folder, "SAMPLE", 0)
    _read(tree)
    stat = (tree / IMAGE).stat()
    (tree / IMAGE).write_bytes(bytes(stat.st_size))
    os.utime(tree / IMAGE, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _read(tree)[1] == []  # size and time say nothing changed
    with pytest.raises(UserError, match="not an image that Pillow reads"):
        _read(tree, verify=True)


def test_hidden_and_other_files_are_passed_over(tree) -> None:
    for name in (".hidden.png", "notes.txt"):
        (tree / "train/cat" / name).touch()
    (tree / "train/.git").mkdir()
    assert len(_read(tree)[0].train_labels) == 120


def test_jpeg_files_are_read_whatever_their_ending(tree) -> None:
    for path in list(tree.glob("*/cat/*")):
        suffix = (".jpg", ".JPEG", ".png")[int(path.stem) % 3]
        Image.open(path).save(path, "JPEG", quality=95)
        path.rename(path.with_suffix(suffix))
    images, _ = _read(tree)
    assert (len(images.train_labels), len(images.test_labels)) == (3 * 40, 3 * 15)
    chosen = images.train_images[images.train_labels == 1]
    assert chosen[:, :, :12, 20:].mean() > 130  # brightened by class; decoded


def test_links_to_outside_and_loops_of_folders_are_harmless(tree, tmp_path) -> None:
    expected = _read(tree)[0].fingerprint
    (tree / IMAGE).rename(tmp_path / "outside.png")
    (tree / IMAGE).symlink_to(tmp_path / "outside.png")
    (tree / "train/cat/loop").symlink_to(tree)
    assert _read(tree)[0].fingerprint == expected
    found = find_images([tree])
    assert len(found) == 3 * (40 + 15)
    assert not [path for path in found if "loop" in path.parts]


def test_the_images_are_those_of_torchvision(tree, tmp_path) -> None:
    """Every suffix that it knows, in either case, at any depth, and through links to folders."""
    for number, suffix in enumerate(IMG_EXTENSIONS):
        for place, name in ((f"new/{number}", suffix), ("", suffix.upper())):
            path = tree / "train" / "cat" / place / f"x{number}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            format = Image.registered_extensions()[suffix]
            Image.new("RGB", (32, 32), (9 * number, 0, 0)).save(path, format)
    shutil.copytree(tree / "test" / "cat", tmp_path / "outside")
    (tree / "train" / "cat" / "link").symlink_to(tmp_path / "outside")
    images, lines = _read(tree)
    theirs = ImageFolder(str(tree / "train"))
    assert len(images.train_labels) == 120 + 2 * len(IMG_EXTENSIONS) + 15
    assert sorted(images.train_labels) == sorted(theirs.targets)
    assert len(lines) == 1  # that they are decoded


def test_what_is_not_read_is_named(tree, write_tree) -> None:
    others = ["train/loose.png", "train/cat/more/x.npy", "train/cat/notes.txt", "test/cat/0001"]
    for name in others:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    (tree / "train" / "cat" / "loop").symlink_to(tree / "train")
    write_tree("a tree/dev")
    for name in ("train/cat/.DS_Store", "train/Thumbs.db", "__MACOSX/train/cat/x.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    images, lines = _read(tree)
    assert (len(images.train_labels), len(images.test_labels)) == (120, 45)
    assert f"{tree}: left out: " in lines[0]
    assert "and 1 more" in lines[0]  # of six
    assert sum(name in lines[0] for name in [*others, "train/cat/loop", "dev"]) == 5


@pytest.mark.parametrize("name", folder.VALIDATION)
def test_a_validation_split_of_its_own_is_the_one_to_select_on(name: str, tree) -> None:
    (tree / "test").rename(tree / name)
    shutil.copytree(tree / name, tree / "test")
    images, _ = _read(tree)
    train, val = images.split(None, 0)
    assert (len(train), len(val)) == (120, 45)
    assert np.array_equal(images.train_images[val], images.test_images)
    assert [len(part) for part in images.split(0, 0)] == [165, 0]
    assert [len(part) for part in images.split(45, 0)] == [120, 45]
    with pytest.raises(UserError, match="val_size 20: the data have a validation split of 45"):
        images.split(20, 0)
    alike = dataclasses.replace(images, val_count=15)
    assert alike.fingerprint != images.fingerprint


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there names are Unicode")
def test_a_folder_whose_name_is_not_unicode_is_read(write_tree) -> None:
    root = Path(os.fsdecode(b"caf\xe9"))
    write_tree().rename(root)
    assert len(_read(root)[0].train_labels) == 120
    assert len(_read(root)[1]) == 0  # from the cache


RAMP = np.arange(1024, dtype=np.uint16).reshape(32, 32)
QUARTER_TURN = Image.Exif()
QUARTER_TURN[0x0112] = 6
PICTURES: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    **{mode: (Image.new("RGB", (32, 32), "red").convert(mode), "x.png", {}) for mode in ("P", "1")},
    "grey": (Image.fromarray((RAMP // 4).astype(np.uint8)), "x.png", {}),
    "transparent": (Image.new("RGBA", (32, 32), (10, 20, 30, 0)), "x.png", {}),
    "transparent palette": (Image.new("P", (32, 32), 0), "x.png", {"transparency": 0}),
    "grey of 16 bits": (Image.fromarray(RAMP * 64), "x.png", {}),
    "turned": (Image.fromarray((RAMP // 4).astype(np.uint8)), "x.jpg", {"exif": QUARTER_TURN}),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_an_image_is_the_same_in_training_and_in_prediction(kind: str) -> None:
    image, name, options = PICTURES[kind]
    image.save(name, **options)
    assert np.array_equal(decode_image(name), read_image(name))


def _png_header(side: int) -> bytes:
    """The beginning of a PNG that promises so many pixels, and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"
HEIC = b"\0\0\0\x18ftypheic"  # its beginning; phones also name such files .jpg
WRONG_FILES: dict[str, tuple[Change, str]] = {
    "truncated": (lambda x: x.write_bytes(x.with_name("0000.png").read_bytes()[:200]), "damaged"),
    "text": (lambda x: x.write_text("no image"), "not an image that Pillow reads"),
    "for a program": (lambda x: x.write_bytes(POSTSCRIPT), "not an image that Pillow reads"),
    "other size": (lambda x: Image.new("RGB", (64, 48)).save(x), "64×48 pixels; expected 32×32"),
    "bomb": (lambda x: x.write_bytes(_png_header(10_000)), "10000×10000"),
    "large bomb": (lambda x: x.write_bytes(_png_header(2**31 - 1)), "far more than 32×32"),
    # A hole, which takes no room on the disk.
    "large file": (lambda x: x.touch() or os.truncate(x, 2**40), "too large .* at most 16,777,216"),
    "pipe": (os.mkfifo, "not a file"),
    "device": (lambda x: x.symlink_to("/dev/zero"), "not a file"),
    "HEIC": (lambda x: x.write_bytes(HEIC), r".*HEIC or AVIF.; convert it to JPEG or PNG"),
    "link to itself": (lambda x: x.symlink_to("x.png"), "cannot be read"),
    "link to nothing": (lambda x: x.symlink_to("missing.png"), "cannot be read"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_named_and_nothing_is_cached(kind: str, tree, monkeypatch) -> None:
    change, said = WRONG_FILES[kind]
    change(tree / "train" / "cat" / "x.png")
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started a program"))
    with pytest.raises(UserError, match=rf"x\.png: {said}"):
        _read(tree)
    assert not cache.cache_path(tree).exists()


def _keep(*names: str) -> Change:
    return lambda tree: [shutil.rmtree(x) for x in tree.glob("*/*") if x.name not in names]


WRONG_CLASSES: list[tuple[Change, str]] = [
    (lambda tree: shutil.rmtree(tree / "test/frog"), "test.frog: no images"),
    (lambda tree: shutil.copytree(tree / "test/cat", tree / "val/cat"), "val.bird: no images"),
    (
        lambda tree: [shutil.copytree(tree / "test", tree / name) for name in ("val", "valid")],
        "val and .*valid: expected one folder",
    ),
    (lambda tree: [x.unlink() for x in (tree / "train/cat").iterdir()], "train.cat: no images"),
    # Links to a disk that is not there.
    (lambda tree: [(x / "ox").symlink_to("/no/ox") for x in tree.iterdir()], "train/ox: cannot be"),
    (_keep(), "class folders: none"),
    (_keep("bird"), "class folders: bird; expected at least two"),
]


@pytest.mark.parametrize(("change", "said"), WRONG_CLASSES)
def test_a_wrong_class_is_named(change: Change, said: str, tree) -> None:
    change(tree)
    with pytest.raises(UserError, match=said):
        _read(tree)


class _Mark:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("was-here",)


def _replace(**arrays: np.ndarray) -> Change:
    return lambda path: np.savez(path, **{**np.load(path), **arrays})


WRONG_CACHES: dict[str, Change] = {  # for damaged bytes see tests/fuzz
    "empty": lambda path: path.write_bytes(b""),
    "no zip": lambda path: path.write_bytes(b"not a zip file"),
    "code": lambda path: np.savez(path, facts=np.array([_Mark()], dtype=object)),
    "pipe": lambda path: path.unlink() or os.mkfifo(path),
    "loop": lambda path: path.unlink() or path.symlink_to(path.name),
    "folder": lambda path: path.unlink() or path.mkdir(),
    "too few labels": _replace(train_labels=np.zeros(119, np.int64)),
    "labels of 32 bits": _replace(train_labels=np.zeros(120, np.int32)),
    "grey images": _replace(test_images=np.zeros((45, 1, 32, 32), np.uint8)),
    "other images": _replace(test_images=np.zeros((45, 3, 32, 32), np.uint8)),
    "other labels": _replace(train_labels=np.roll(np.arange(120) // 40, 1)),
}


@pytest.mark.parametrize("kind", WRONG_CACHES)
def test_a_cache_that_is_not_what_it_should_be_is_rebuilt(kind: str, tree) -> None:
    expected = _read(tree)[0].fingerprint
    WRONG_CACHES[kind](cache.cache_path(tree))
    images, lines = _read(tree)
    assert images.fingerprint == expected
    assert lines[0].startswith("decoding")
    assert not Path("was-here").exists()


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root gives files away")
def test_a_cache_of_another_user_is_used_only_if_the_tree_is_theirs(tree) -> None:
    _read(tree)
    os.chown(cache.cache_path(tree), 54321, -1)
    assert len(_read(tree)[1]) == 1
    os.chown(cache.cache_path(tree), 54321, -1)
    os.chown(tree, 54321, -1)
    assert _read(tree)[1] == []


def test_a_cache_of_another_format_is_rebuilt(tree, monkeypatch) -> None:
    _read(tree)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert len(_read(tree)[1]) == 1
    assert _read(tree)[1] == []


@pytest.mark.parametrize("reason", ["no folder", "no home"])
def test_a_cache_that_cannot_be_written_is_done_without(reason: str, tree, monkeypatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("CIFAR_LAB_CACHE", "file" if reason == "no folder" else "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("no home directory")))
    images, lines = _read(tree)
    assert len(images.train_labels) == 120
    assert "cannot be written" in lines[-1]


def test_a_cache_is_readable_for_all_who_share_its_folder(tree) -> None:
    _read(tree)
    (kept,) = cache.cache_path(tree).parent.iterdir()  # and no temporary file
    umask = os.umask(0)
    os.umask(umask)
    assert kept.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/cifar_lab"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/cifar_lab"),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, "home/Library/Caches/cifar_lab"),
        ("win32", {}, "home/AppData/Local/cifar_lab"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/cifar_lab"),
        ("linux", {"CIFAR_LAB_CACHE": "~/mine"}, "home/mine"),
    ],
)
def test_where_the_cache_is(platform: str, variables: dict, expected: str, monkeypatch) -> None:
    monkeypatch.setattr(os, "environ", {"HOME": "home", **variables})
    monkeypatch.setattr("sys.platform", platform)
    assert cache.cache_folder() == Path(expected)


def test_a_cache_elsewhere_is_refused(tree, monkeypatch) -> None:
    monkeypatch.setenv("CIFAR_LAB_CACHE", "s3://bucket/cache")
    with pytest.raises(UserError, match=r"\$CIFAR_LAB_CACHE s3://bucket/cache: a URL"):
        _read(tree)


def test_what_killed_processes_left_in_the_cache_is_removed(tree) -> None:
    folder = cache.cache_path(tree).parent
    folder.mkdir(parents=True)
    for name, hours in (("old.part", 2), ("new.part", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - 3600 * hours,) * 2)
    _read(tree)
    assert {path.name for path in folder.iterdir()} == {"new.part", cache.cache_path(tree).name}
