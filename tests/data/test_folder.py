"""Image trees: read, cached, and refused with the name of what is wrong."""

import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_lab.data import cache, folder
from cifar_lab.data.folder import decode_image, read_tree
from cifar_lab.data.image_set import ImageSet
from cifar_lab.errors import UserError
from cifar_lab.inference.images import find_images, read_image


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


def test_every_image_of_a_tree_is_decoded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_BLOCK", 7)  # images a task
    images, _ = _read(tree)
    for split, pixels in (("train", images.train_images), ("test", images.test_images)):
        files = [
            file for name in images.class_names for file in sorted((tree / split / name).iterdir())
        ]
        assert len(files) == len(pixels)
        for file, found in zip(files, pixels, strict=True):
            assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), found), file


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
    with pytest.raises(UserError, match=r"notes.png: not a PNG or JPEG file"):
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


def test_a_tree_of_one_class_is_refused(write_tree: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="only one class folder, 'images'; expected at least two"):
        _read(write_tree(classes=("images",)))


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


@pytest.mark.parametrize("kind", ["transparent", "palette", "grey of 16 bits", "turned"])
def test_an_image_is_the_same_in_training_and_in_prediction(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("image.jpg" if kind == "turned" else "image.png")
    ramp = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    if kind == "transparent":
        Image.new("RGBA", (32, 32), (10, 20, 30, 0)).save(path)
    elif kind == "palette":
        Image.new("P", (32, 32), 0).save(path, transparency=0)
    elif kind == "grey of 16 bits":
        Image.fromarray(ramp * 64).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        Image.fromarray((ramp // 4).astype(np.uint8)).save(path, exif=exif)
    decoded = decode_image(str(path))
    assert np.array_equal(decoded, read_image(path))
    if kind in ("transparent", "palette"):
        assert decoded.min() == 255  # laid over white
    elif kind == "grey of 16 bits":
        assert abs(decoded.mean() - 127) < 1
    else:
        assert decoded[0, 0, 0] > decoded[0, 0, -1] + 200  # its first row is its last column now


def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, write_tree: Callable[..., Path], tmp_path: Path
) -> None:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "mine"))
    _read(write_tree())
    (kept,) = (tmp_path / "mine" / "decoded").iterdir()  # and no temporary file
    umask = os.umask(0)
    os.umask(umask)
    assert kept.stat().st_mode & 0o777 == 0o666 & ~umask  # for all who share the folder


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
def test_where_the_cache_is(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CIFAR_LAB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "home")
    monkeypatch.setattr("sys.platform", platform)
    assert cache.cache_folder() == Path(expected)


def test_without_a_home_there_is_no_cache(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CIFAR_LAB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    images, lines = _read(tree)
    assert len(images.train_labels) == 120
    assert "cannot be written" in lines[-1]


def test_what_killed_processes_left_in_the_cache_is_removed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache.cache_path(tree).parent
    folder.mkdir(parents=True)
    for name, hours in (("old.tmp", 2), ("new.tmp", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - 3600 * hours,) * 2)
    _read(tree)
    assert {path.suffix for path in folder.iterdir()} == {".tmp", ".npz"}
    assert [path.name for path in folder.glob("*.tmp")] == ["new.tmp"]


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there names are Unicode")
def test_a_folder_whose_name_is_not_unicode_is_read(
    write_tree: Callable[..., Path],
) -> None:
    root = Path(os.fsdecode(b"caf\xe9"))
    write_tree().rename(root)
    assert len(_read(root)[0].train_labels) == 120
    assert len(_read(root)[1]) == 0  # from the cache


# --- files that are not what they seem --------------------------------------------------------


def _png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that promises so many pixels, and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


@pytest.mark.parametrize(
    ("side", "said"),
    [(60_000, "far more than 32×32"), (10_000, "10000×10000"), (2**31 - 1, "far more")],
)
def test_an_image_bomb_is_refused_by_its_header(side: int, said: str, tree: Path) -> None:
    (tree / "train" / "cat" / "bomb.png").write_bytes(_png_header(side, side))
    with pytest.raises(UserError, match=rf"bomb\.png: {said}"):
        _read(tree)


def test_formats_for_which_pillow_starts_a_program_are_not_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"
    (tree / "train" / "cat" / "page.png").write_bytes(content)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started a program"))
    with pytest.raises(UserError, match=r"page\.png: not a PNG or JPEG file"):
        _read(tree)


def test_endless_files_are_refused(tree: Path) -> None:
    path = tree / "train" / "cat" / "x.png"
    for replace in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), path.mkdir):
        replace()
        with pytest.raises(UserError, match=r"x\.png: not a file"):
            _read(tree)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tree: Path) -> None:
    path = tree / "train" / "cat" / "large.png"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: no bytes on the disk
    with pytest.raises(UserError, match=r"large\.png: too large .* at most 16,777,216 are read"):
        _read(tree)


@pytest.mark.parametrize("target", ["x.png", "missing.png"])
def test_a_link_that_leads_nowhere_is_named(target: str, tree: Path) -> None:
    (tree / "train" / "cat" / "x.png").symlink_to(target)
    with pytest.raises(UserError, match=r"x\.png: cannot be read"):
        _read(tree)


def test_a_class_that_leads_nowhere_is_named(tree: Path) -> None:
    for split in ("train", "test"):  # links to a disk that is not there
        (tree / split / "zebra").symlink_to("/nowhere/zebra")
    with pytest.raises(UserError, match=r"train/zebra: cannot be read"):
        _read(tree)


def test_jpeg_files_are_read_whatever_their_ending(tree: Path) -> None:
    for split in ("train", "test"):
        for number, path in enumerate((tree / split / "cat").iterdir()):
            suffix = (".jpg", ".JPEG", ".png")[number % 3]
            Image.open(path).save(path.with_suffix(suffix), quality=95)
            if suffix != ".png":
                path.unlink()
    images, _ = _read(tree)
    assert (len(images.train_labels), len(images.test_labels)) == (3 * 40, 3 * 15)
    chosen = images.train_images[images.train_labels == 1]
    assert chosen[:, :, :12, 20:].mean() > 130  # brightened by class; decoded


def test_links_to_outside_and_loops_of_folders_are_harmless(tree: Path, tmp_path: Path) -> None:
    expected = _read(tree)[0].fingerprint
    outside = tmp_path / "outside.png"
    (tree / "train" / "cat" / "0000.png").rename(outside)
    (tree / "train" / "cat" / "0000.png").symlink_to(outside)
    (tree / "train" / "cat" / "loop").symlink_to(tree)
    assert _read(tree)[0].fingerprint == expected
    found = find_images([tree])
    assert len(found) == 3 * (40 + 15)
    assert not [path for path in found if "loop" in path.parts]


def _store_pickle(path: Path) -> None:
    np.savez(path, allow_pickle=True, facts=np.array([_Mark()], dtype=object))


class _Mark:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("was-here",)


def test_a_cache_runs_no_code(tree: Path) -> None:
    expected = _read(tree)[0].fingerprint
    _store_pickle(cache.cache_path(tree))
    images, lines = _read(tree)
    assert (images.fingerprint, len(lines)) == (expected, 1)
    assert not Path("was-here").exists()


@pytest.mark.parametrize("change", ["compressed", "pipe", "loop", "folder"])
def test_a_cache_that_is_no_plain_file_of_its_size_is_rebuilt(tree: Path, change: str) -> None:
    expected = _read(tree)[0].fingerprint
    path = cache.cache_path(tree)
    if change == "compressed":
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        np.savez_compressed(path, **{**arrays, "zeros": np.zeros(10**7)})
    else:
        path.unlink()
        {"pipe": os.mkfifo, "loop": lambda p: p.symlink_to(p.name), "folder": Path.mkdir}[change](
            path
        )
    images, lines = _read(tree)
    assert images.fingerprint == expected
    assert lines[0].startswith("decoding")


@pytest.mark.parametrize(
    "change",
    [
        {"train_labels": np.full(120, 3)},
        {"train_labels": np.zeros(119, np.int64)},
        {"train_labels": np.zeros((120, 1), np.int64)},
        {"test_images": np.zeros((45, 3, 32, 32), np.float32)},
        {"test_images": np.zeros((45, 1, 32, 32), np.uint8)},
    ],
)
def test_a_cache_of_other_arrays_is_rebuilt(tree: Path, change: dict[str, np.ndarray]) -> None:
    expected = _read(tree)[0].fingerprint
    path = cache.cache_path(tree)
    with np.load(path) as stored:
        np.savez(path.with_name("new.npz"), **{**stored, **change})
    path.with_name("new.npz").rename(path)
    images, lines = _read(tree)
    assert (images.fingerprint, len(lines)) == (expected, 1)


def test_a_cache_of_another_format_is_rebuilt(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _read(tree)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert len(_read(tree)[1]) == 1
    assert _read(tree)[1] == []
