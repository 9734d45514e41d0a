"""A folder-per-class tree of image files: ``train/<class>/*.png`` and ``test/<class>/*.png``.

Any number of classes, PNG or JPEG, 32×32 pixels, any mode that Pillow turns into RGB. The tree is
decoded once and then read from the cache (cache.py).
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar_lab.data import cache
from cifar_lab.data.image_set import IMAGE_SHAPE, ImageSet
from cifar_lab.errors import UserError

SPLITS = ("train", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ImageFile:
    """One image of the tree: its path, its class (a number) and what tells that it changed."""

    path: str
    label: int
    size: int
    modified: int


def is_tree(folder: Path) -> bool:
    """Whether the folder has the layout's two split folders."""
    return all((folder / split).is_dir() for split in SPLITS)


def read_tree(root: Path, verify: bool, report: Callable[[str], None]) -> ImageSet:
    """Reads a tree, from the cache where that is still true.

    Args:
        root: the folder that holds ``train`` and ``test``.
        verify: compare the contents of the files too, not only their sizes and times.
        report: is told in one line when the tree has to be decoded.

    Raises:
        UserError: no images, classes that differ between the splits, or an image that is broken or
            not 32×32.
    """
    class_names = _class_names(root)
    splits = {split: _list_files(root / split, class_names) for split in SPLITS}
    path, key = cache.cache_path(root), _key(root, class_names, splits)
    found = cache.load(path, key)
    if found and (not verify or found[1]["contents"] == _contents(splits)):
        arrays = found[0]
    else:
        arrays = _decode(splits, report)
        facts = {"contents": _contents(splits)}
        if not cache.store(path, key, arrays, facts):
            report(f"{path.parent} cannot be written: the images will be decoded again next time")
    return ImageSet(**arrays, class_names=class_names, source="folder", location=str(root))


def _class_names(root: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted; the same in both splits."""
    names = {
        split: {entry.name for entry in os.scandir(root / split) if _is_class(entry)}
        for split in SPLITS
    }
    if odd := names["train"] ^ names["test"]:
        name = min(odd)
        here, there = SPLITS if name in names["train"] else SPLITS[::-1]
        raise UserError(
            f"{root}: class {name!r} is in {here}/ but not in {there}/; expected the same class "
            "folders in both"
        )
    if not names["train"]:
        raise UserError(f"{root / 'train'}: no class folders; expected train/<class>/*.png or .jpg")
    return tuple(sorted(names["train"]))


def _is_class(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _list_files(folder: Path, class_names: tuple[str, ...]) -> list[ImageFile]:
    """The image files of a split, by class and then by name."""
    files = []
    for label, name in enumerate(class_names):
        entries = [
            entry
            for entry in os.scandir(folder / name)
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
        ]
        if not entries:
            raise UserError(
                f"{folder / name}: no images; expected files that end in {', '.join(SUFFIXES)}"
            )
        for entry in sorted(entries, key=lambda entry: entry.name):
            stat = entry.stat()
            files.append(ImageFile(entry.path, label, stat.st_size, stat.st_mtime_ns))
    return files


def _key(root: Path, class_names: tuple[str, ...], splits: dict[str, list[ImageFile]]) -> str:
    digest = hashlib.sha256(repr((str(root.resolve()), class_names)).encode())
    for files in splits.values():
        lines = (f"{os.path.basename(f.path)}\0{f.label}\0{f.size}\0{f.modified}" for f in files)
        digest.update("\n".join(lines).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _contents(splits: dict[str, list[ImageFile]]) -> str:
    """A SHA-256 over the contents of all files."""
    digest = hashlib.sha256()
    for files in splits.values():
        for file in files:
            digest.update(Path(file.path).read_bytes())
    return digest.hexdigest()


def _decode(
    splits: dict[str, list[ImageFile]], report: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Arrays by the names of ImageSet's fields."""
    count = sum(len(files) for files in splits.values())
    report(f"decoding {count:,} images; this happens once, then they come from the cache")
    arrays: dict[str, np.ndarray] = {}
    # Pillow decodes outside Python's global lock, so threads use every core.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, files in splits.items():
            images = np.empty((len(files), *IMAGE_SHAPE), dtype=np.uint8)
            blocks = range(0, len(files), _BLOCK)
            for _ in pool.map(lambda start, f=files, i=images: _fill(f, i, start), blocks):
                pass
            arrays[f"{split}_images"] = images
            arrays[f"{split}_labels"] = np.array([file.label for file in files], dtype=np.int64)
    return arrays


_BLOCK = 500  # images a task, so that handing out tasks costs nothing


def _fill(files: list[ImageFile], images: np.ndarray, start: int) -> None:
    for index in range(start, min(start + _BLOCK, len(files))):
        images[index] = decode_image(files[index].path)


def decode_image(path: str) -> np.ndarray:
    """One 32×32 image file as uint8 (3, 32, 32), RGB.

    Raises:
        UserError: the file is no image, is damaged, or has another size.
    """
    height, width = IMAGE_SHAPE[1:]
    try:
        with Image.open(io.BytesIO(Path(path).read_bytes())) as image:
            if image.size != (width, height):  # known before anything is decoded
                raise UserError(
                    f"{path}: {image.width}×{image.height} pixels; expected {width}×{height}. "
                    "Resize or remove it."
                )
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise UserError(f"{path}: not an image file. Replace or remove it.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: damaged image ({error}). Replace or remove it.") from error
