"""An image tree with one folder for each class: ``train/<class>/*.png``, ``test/<class>/*.png``.

There may be any number of classes. Images are PNG or JPEG files of 32×32 pixels in any mode of
Pillow (see pixels.py). The tree is decoded once and then read from the cache (see cache.py).
Classes and images may be links, also to other folders. Only ``train/<class>/`` and
``test/<class>/`` are searched, so loops of links are harmless.
"""

import hashlib
import io
import os
import random
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar_lab.data import cache
from cifar_lab.data.image_set import IMAGE_SHAPE, ImageSet
from cifar_lab.data.pixels import as_cifar
from cifar_lab.data.progress import Report
from cifar_lab.errors import UserError
from cifar_lab.files import read_file, shown

SPLITS = ("train", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")  # formats of the content: Pillow starts other programs for some others
FILE_LIMIT = 2**24  # bytes of an image file; 3,072 are needed without compression
SAMPLE = 50  # images of each split that are compared with their cache; 0.1 s in all
BLOCK = 500  # images that a thread decodes at a time, so that handing out work costs nothing


class ImageFile(NamedTuple):
    """One image of the tree."""

    path: str
    label: int
    size: int  # in bytes
    modified: int  # time of the last change in nanoseconds


def is_tree(folder: Path) -> bool:
    """Return whether the folder has the two folders of the splits.

    Raises:
        UserError: There are images of one split only, so that the other one was forgotten.
    """
    if all((folder / split).is_dir() for split in SPLITS):
        return True
    for split, other in (SPLITS, SPLITS[::-1]):
        files = folder.glob(f"{split}/*/*")
        if any(file.suffix.lower() in SUFFIXES for file in files):
            raise UserError(
                f"{folder}: images in {split}/<class>/, but no {other}/<class>/; image folders "
                f"need both. Add {other}/, or name another folder (--data_dir)"
            )
    return False


def read_tree(root: Path, verify: bool, report: Report) -> ImageSet:
    """Read a tree, from the cache if no file has changed since.

    Sizes and times of all files are compared, all labels, and the pixels of some images, drawn at
    random; with ``verify`` all images are decoded anew. What is wrong with the tree is a UserError;
    a file that cannot be read is an OSError.
    """
    class_names = _class_names(root)
    splits = {split: _list_files(root / split, class_names) for split in SPLITS}
    key = _key(root, class_names, splits)
    arrays = None if verify else cache.load(root, key)
    if arrays is None or not _agrees(arrays, splits):
        arrays = _decode(splits, report)
        if not cache.store(root, key, arrays):
            folder = cache.cache_path(root).parent
            report(f"{folder} cannot be written: the images will be decoded again next time")
    return ImageSet(**arrays, class_names=class_names, source="folder", location=str(root))


def _agrees(arrays: dict[str, np.ndarray], splits: dict[str, list[ImageFile]]) -> bool:
    """Return whether arrays have the labels of the files, and the pixels of a sample of them."""
    for split, files in splits.items():
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if labels.tolist() != [file.label for file in files]:
            return False
        # Of the system's own random numbers, so that those of a run stay what they are.
        for index in random.SystemRandom().sample(range(len(files)), min(SAMPLE, len(files))):
            if not np.array_equal(images[index], decode_image(files[index].path)):
                return False
    return True


def _class_names(root: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders, which both splits must share."""
    names = {
        split: {path.name for path in (root / split).iterdir() if _is_class(path)}
        for split in SPLITS
    }
    if odd := names["train"] ^ names["test"]:
        name = min(odd)
        here, there = SPLITS if name in names["train"] else SPLITS[::-1]
        raise UserError(
            f"{root}: class {name!r} is in {here}/ but not in {there}/; expected the same class "
            "folders in both"
        )
    if len(names["train"]) < 2:
        found = ", ".join(names["train"]) or "none"
        raise UserError(
            f"{root / 'train'}: class folders: {found}; expected at least two, with .png or .jpg "
            "files: train/<class>/*.png"
        )
    return tuple(sorted(names["train"]))


def _is_class(path: Path) -> bool:
    # stat() raises if it is a link whose target is missing, for example on an unmounted disk.
    return not path.name.startswith(".") and stat.S_ISDIR(path.stat().st_mode)


def _list_files(folder: Path, class_names: tuple[str, ...]) -> list[ImageFile]:
    """Return the image files of a split, sorted by class and then by name."""
    files = []
    for label, name in enumerate(class_names):
        entries = [
            entry
            for entry in sorted(os.scandir(folder / name), key=lambda entry: entry.name)
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
        ]
        if not entries:
            raise UserError(
                f"{folder / name}: no images; expected files that end in {', '.join(SUFFIXES)}"
            )
        for entry in entries:
            status = entry.stat()
            files.append(ImageFile(entry.path, label, status.st_size, status.st_mtime_ns))
    return files


def _key(root: Path, class_names: tuple[str, ...], splits: dict[str, list[ImageFile]]) -> str:
    digest = hashlib.sha256(repr((str(root.resolve()), class_names)).encode())
    for files in splits.values():
        lines = (f"{os.path.basename(f.path)}\0{f.label}\0{f.size}\0{f.modified}" for f in files)
        digest.update("\n".join(lines).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _decode(splits: dict[str, list[ImageFile]], report: Report) -> dict[str, np.ndarray]:
    """Decode all images, to the arrays of an ``ImageSet``."""
    count = sum(len(files) for files in splits.values())
    report(f"decoding {count:,} images; after this they come from the cache")
    arrays: dict[str, np.ndarray] = {}
    # Pillow releases Python's global lock while it decodes, so threads use every core. Its warnings
    # concern metadata and sizes. They are filtered here since all threads share the filters.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
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
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
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
        raise UserError(f"{path}: not a PNG or JPEG file. Replace or remove it.") from error
    except Exception as error:  # the decoders raise errors of any type for damaged files
        raise UserError(f"{path}: damaged image ({shown(error)}). Replace or remove it.") from error
