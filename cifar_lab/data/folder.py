"""A folder-per-class tree of image files: ``train/<class>/*.png`` and ``test/<class>/*.png``.

Any number of classes, PNG or JPEG, 32×32 pixels, any mode of Pillow (pixels.py). The tree is
decoded once and then read from the cache (cache.py). Classes and images may be links, also to
outside; only ``train/<class>/`` is searched, so a loop of links has no end to run into.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
FORMATS = ("PNG", "JPEG")  # of the content: Pillow starts other programs for some others
FILE_LIMIT = 2**24  # bytes of an image, which has 3,072 when nothing is compressed


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


def check_no_half(folder: Path) -> None:
    """Refuses a folder that is no tree, but has images of one split: the other was forgotten.

    Raises:
        UserError: it is so; says which split is missing.
    """
    for split, other in (SPLITS, SPLITS[::-1]):
        files = folder.glob(f"{split}/*/*")
        if any(file.suffix.lower() in SUFFIXES for file in files):
            raise UserError(
                f"{folder}: images in {split}/<class>/, but no {other}/<class>/; image folders "
                f"need both. Add {other}/, or name another folder (--data_dir)"
            )


def read_tree(root: Path, verify: bool, report: Report) -> ImageSet:
    """Reads a tree, from the cache where that is still true.

    Args:
        root: the folder that holds ``train`` and ``test``.
        verify: compare the contents of the files too, not only their sizes and times.
        report: is told in one line when the tree has to be decoded.

    Raises:
        UserError: no images, classes that differ between the splits, an image that is broken or
            not 32×32, or a file or folder that may not be read.
    """
    try:
        return _read_tree(root, verify, report)
    except OSError as error:
        name = error.filename or root
        raise UserError(f"{name}: cannot be read ({error.strerror}). Remove or mend it.") from error


def _read_tree(root: Path, verify: bool, report: Report) -> ImageSet:
    class_names = _class_names(root)
    splits = {split: _list_files(root / split, class_names) for split in SPLITS}
    path, key = cache.cache_path(root), _key(root, class_names, splits)
    found = cache.load(path, key)
    if found and (not verify or found[1].get("contents") == _contents(splits)):
        arrays = found[0]
    else:
        arrays = _decode(splits, report)
        facts = {"contents": _contents(splits), "class_names": class_names}
        if not cache.store(path, key, arrays, facts):
            report(f"{path.parent} cannot be written: the images will be decoded again next time")
    return ImageSet(**arrays, class_names=class_names, source="folder", location=str(root))


def _class_names(root: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted; the same in both splits."""
    names = {}
    for split in SPLITS:
        with os.scandir(root / split) as entries:
            names[split] = {entry.name for entry in entries if _is_class(entry)}
    if odd := names["train"] ^ names["test"]:
        name = min(odd)
        here, there = SPLITS if name in names["train"] else SPLITS[::-1]
        raise UserError(
            f"{root}: class {name!r} is in {here}/ but not in {there}/; expected the same class "
            "folders in both"
        )
    if odd := {name for name in names["train"] if not name.isprintable()}:
        raise UserError(f"{root}: class {min(odd)!r} cannot be printed; rename its folders")
    if not names["train"]:
        raise UserError(f"{root / 'train'}: no class folders; expected train/<class>/*.png or .jpg")
    if len(names["train"]) == 1:
        only = min(names["train"])
        raise UserError(
            f"{root / 'train'}: only one class folder, {only!r}; expected at least two, "
            "train/<class>/*.png or .jpg"
        )
    return tuple(sorted(names["train"]))


def _is_class(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith("."):
        return False
    if entry.is_symlink():
        os.stat(entry.path)  # raises where it leads nowhere, to a disk that is not there say
    return entry.is_dir()


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
            digest.update(read_file(file.path, FILE_LIMIT))
    return digest.hexdigest()


def _decode(splits: dict[str, list[ImageFile]], report: Report) -> dict[str, np.ndarray]:
    """Arrays by the names of ImageSet's fields."""
    count = sum(len(files) for files in splits.values())
    report(f"decoding {count:,} images; this happens once, then they come from the cache")
    arrays: dict[str, np.ndarray] = {}
    # Pillow decodes outside Python's global lock, so threads use every core. Its warnings are of
    # metadata and sizes; here, since the filters are those of all threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
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
        UserError: the file is no image, is damaged, too large, or has another size.
        OSError: there is no such file, or it may not be read.
    """
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
    except Exception as error:  # the decoders raise errors of every kind for damaged files
        raise UserError(f"{path}: damaged image ({shown(error)}). Replace or remove it.") from error
