"""An image tree with one folder for each class: ``train/<class>/*.png``, ``test/<class>/*.png``.

There may be any number of classes, and a validation split in ``val/<class>/``. Images are files of
32×32 pixels, at any depth below the folder of their class, in any mode and format that predictions
are made from (see pixels.py). The tree is decoded once and then read from the cache (see cache.py).
Classes, images and folders may be links; a link to a folder that contains it is not followed.

Files that are not read are reported in one line, except hidden ones.
"""

import hashlib
import io
import os
import random
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from cifar_lab.data import cache
from cifar_lab.data.image_set import IMAGE_SHAPE, ImageSet
from cifar_lab.data.pictures import (
    counts,
    formats,
    is_picture,
    left_out,
    unread,
)
from cifar_lab.data.pixels import as_cifar
from cifar_lab.data.progress import Report
from cifar_lab.errors import UserError
from cifar_lab.files import read_file, shown

SPLITS = ("train", "test")
VALIDATION = ("val", "valid", "validation")  # the names of its folder
FILE_LIMIT = 2**24  # bytes of an image file; 3,072 are needed without compression
SAMPLE = 50  # images of each split that are compared with their cache; 0.1 s in all
BLOCK = 500  # images that a thread decodes at a time, so that scheduling takes little time


Found = dict[str, list[os.DirEntry[str]]]  # pictures by the name of their class


class ImageFile(NamedTuple):
    """One image of the tree."""

    path: str
    name: str  # below the folder of its class
    label: int
    size: int  # in bytes
    modified: int  # time of the last change in nanoseconds


def find_splits(root: Path, classes: Sequence[str] = ()) -> dict[str, Path]:
    """Return the folders of "train", "test" and "val" by name; empty if this is not an image tree.

    To evaluate a model, whose ``classes`` are then given, the test split is enough; it may also be
    class folders directly in ``root``.

    Raises:
        UserError: There are images of only one split, or several folders for validation.
    """
    found = {split: root / split for split in SPLITS if (root / split).is_dir()}
    val = [root / name for name in VALIDATION if (root / name).is_dir()]
    if len(val) > 1:
        raise UserError(f"{val[0]} and {val[1]}: expected one folder for validation; merge them")
    if "test" in found and (classes or "train" in found):
        return found | dict(zip(["val"], val, strict=False))
    for split, other in (SPLITS, SPLITS[::-1]):
        if split in found and next(_some_pictures(root / split), None):
            raise UserError(
                f"{root}: images in {split}/<class>/, but no {other}/<class>/; image folders "
                f"need both. Add {other}/, or name another folder (--data_dir)"
            )
    if not any((root / name).is_dir() for name in classes):
        return {}
    if root.name == "train":
        raise UserError(f"{root}: name {root.parent} instead, and choose --split train")
    return {"test": root}


def _some_pictures(folder: Path) -> Iterator[Path]:
    depths = ("*", "*/*", "*/*/*")
    return (path for depth in depths for path in folder.glob(depth) if is_picture(path.name))


def read_tree(root: Path, verify: bool, report: Report, classes: tuple[str, ...] = ()) -> ImageSet:
    """Read a tree, from the cache if no file has changed since.

    The cache is compared with the sizes and times of all files, all labels, and the pixels of some
    random images; with ``verify`` all images are decoded again. ``classes`` are those of a model to
    evaluate; some may have no images.

    Raises:
        UserError: The tree is not as expected.
        OSError: A file cannot be read.
    """
    folders = find_splits(root, classes)
    others: list[str] = []
    found = {split: _find_files(folder, others) for split, folder in folders.items()}
    class_names = _class_names(folders, found, classes)
    if root not in folders.values():
        others += _other_folders(root, folders)
    if others:
        report(left_out(root, others, "expected pictures in {train,val,test}/<class>/"))
    lists = {split: _labelled(folders[split], found[split], class_names) for split in folders}
    val = lists.get("val", [])  # these come after the images of the training split
    splits = {"train": lists.get("train", []) + val, "test": lists["test"]}
    key = _key(root, class_names, splits)
    arrays = None if verify else cache.load(root, key)
    if arrays is None or not _agrees(arrays, splits):
        arrays = _decode(splits, report)
        if not cache.store(root, key, arrays):
            kept = cache.cache_path(root).parent
            report(f"{kept} cannot be written: the images will be decoded again next time")
    return ImageSet(
        **arrays,
        class_names=class_names,
        source="folder",
        location=str(root),
        val_count=len(val),
    )


def _agrees(arrays: dict[str, np.ndarray], splits: dict[str, list[ImageFile]]) -> bool:
    """Return whether arrays have the labels of the files, and the pixels of a sample of them."""
    for split, files in splits.items():
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if labels.tolist() != [file.label for file in files]:
            return False
        # The system's random numbers are used, so that those of a run do not change.
        for index in random.SystemRandom().sample(range(len(files)), min(SAMPLE, len(files))):
            if not np.array_equal(images[index], decode_image(files[index].path)):
                return False
    return True


def _find_files(folder: Path, others: list[str]) -> Found:
    """Return the pictures of a split by the name of their class; append other files to others."""
    above = {_place(parent) for parent in (*folder.absolute().parents, *folder.resolve().parents)}
    found = {}
    for path in sorted(path for path in folder.iterdir() if counts(path.name)):
        # stat() raises for a link whose target is missing, for example on an unmounted disk.
        if stat.S_ISDIR(path.stat().st_mode):
            found[path.name] = list(_walk(str(path), above | {_place(folder)}, others))
        else:
            others.append(str(path))
    return found


def _walk(
    folder: str, above: set[tuple[int, int]], others: list[str]
) -> Iterator[os.DirEntry[str]]:
    """Yield the pictures in a folder, sorted by name, and then those in its subfolders."""
    place = _place(folder)
    if place in above:  # a link to a folder that contains it
        others.append(folder)
        return
    folders = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if counts(entry.name):
            if entry.is_dir():
                folders.append(entry.path)
            elif is_picture(entry.name):
                yield entry
            else:
                others.append(entry.path)
    for path in folders:
        yield from _walk(path, above | {place}, others)


def _place(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _class_names(
    folders: dict[str, Path], found: dict[str, Found], classes: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names of the classes, sorted: those of all splits, or of the model."""
    names = classes or tuple(sorted(set().union(*found.values())))
    for split, files in found.items():
        for name in sorted(files.keys() - names):
            told = f"not one of the model's classes ({shown(', '.join(names))})"
            raise UserError(f"{folders[split] / name}: {told}")
        lacking = [name for name in names if not files.get(name)]
        if len(lacking) > (len(names) - (split == "test") if classes else 0):
            path = folders[split] / lacking[0]
            raise UserError(f"{path}: no images; expected .png, .jpg or other pictures there")
    if len(names) < 2:
        told = f"class folders: {names[0] if names else 'none'}; expected at least two"
        raise UserError(f"{folders['test']}: {told}, with pictures in them: test/<class>/*.png")
    return names


def _labelled(folder: Path, found: Found, class_names: tuple[str, ...]) -> list[ImageFile]:
    files = []
    for label, name in enumerate(class_names):
        start = len(str(folder / name)) + 1
        for entry in found.get(name, []):
            status, below = entry.stat(), entry.path[start:]
            files.append(ImageFile(entry.path, below, label, status.st_size, status.st_mtime_ns))
    return files


def _other_folders(root: Path, folders: dict[str, Path]) -> list[str]:
    """Return other folders in the root that have pictures, such as a split with another name."""
    entries = sorted(path for path in root.iterdir() if counts(path.name))
    return [
        str(path)
        for path in entries
        if path not in folders.values() and next(_some_pictures(path), None)
    ]


def _key(root: Path, class_names: tuple[str, ...], splits: dict[str, list[ImageFile]]) -> str:
    digest = hashlib.sha256(repr((str(root.resolve()), class_names)).encode())
    for files in splits.values():
        lines = (f"{f.name}\0{f.label}\0{f.size}\0{f.modified}" for f in files)
        digest.update("\n".join(lines).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _decode(splits: dict[str, list[ImageFile]], report: Report) -> dict[str, np.ndarray]:
    """Decode all images into the arrays of an ``ImageSet``."""
    count = sum(len(files) for files in splits.values())
    report(f"decoding {count:,} images; after this they come from the cache")
    arrays: dict[str, np.ndarray] = {}
    # Pillow releases the GIL while it decodes, so threads use every core. Its warnings concern
    # metadata and sizes. They are filtered here since all threads share the filters.
    with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        warnings.simplefilter("ignore")
        for split, files in splits.items():
            images = np.empty((len(files), *IMAGE_SHAPE), dtype=np.uint8)
            list(pool.map(partial(_fill, files, images), range(0, len(files), BLOCK)))
            arrays[f"{split}_images"] = images
            arrays[f"{split}_labels"] = np.array([file.label for file in files], dtype=np.int64)
    return arrays


def _fill(files: list[ImageFile], images: np.ndarray, start: int) -> None:
    for index in range(start, min(start + BLOCK, len(files))):
        images[index] = decode_image(files[index].path)


def decode_image(path: str) -> np.ndarray:
    """Return an image file of 32×32 pixels as uint8 (3, 32, 32), RGB."""
    height, width = IMAGE_SHAPE[1:]
    content = read_file(path, FILE_LIMIT)
    try:
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            if image.size != (width, height):  # known before anything is decoded
                raise UserError(
                    f"{path}: {image.width}×{image.height} pixels; expected {width}×{height}. "
                    "Resize or remove it."
                )
            return as_cifar(image)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: far more than {width}×{height} pixels. Remove it.") from error
    except (UnidentifiedImageError, SyntaxError) as error:
        raise UserError(f"{path}: {unread(Path(path))}. Replace or remove it.") from error
    except Exception as error:  # the decoders raise errors of any type for damaged files
        raise UserError(f"{path}: damaged image ({shown(error)}). Replace or remove it.") from error
