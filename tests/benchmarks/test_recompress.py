"""The copy that is compressed once more: all images, on other blocks."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recompress


def test_the_copy_has_the_images_compressed(tree: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["recompress.py", str(tree), "twice", "--quality", "60"])
    recompress.main()
    assert capsys.readouterr().out.startswith("165 images, PSNR ")
    names = {path.relative_to(tree) for path in tree.rglob("*.png")}
    assert {path.relative_to("twice") for path in Path("twice").rglob("*.png")} == names
    name = min(names)
    first, again = (np.asarray(Image.open(root / name)) for root in (tree, Path("twice")))
    np.testing.assert_array_equal(again, recompress.compress(first, 60))
    with pytest.raises(SystemExit):  # it exists
        recompress.main()
    assert "twice: exists already" in capsys.readouterr().err


def test_blocks_that_lie_aside_lose_much_again_and_the_same_blocks_do_not() -> None:
    y, x = np.mgrid[:32, :32]
    image = (128 + 60 * np.sin(x * y / 9)[:, :, None] * [1, 1, 1]).astype(np.uint8)  # gray
    once = _jpeg(image)
    assert _error(recompress.compress(once, 75), once) > 5 * _error(_jpeg(once), once)


def _jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75, subsampling="4:2:0")
    return np.asarray(Image.open(file).convert("RGB"))


def _error(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.square(image.astype(float) - other).mean())
