"""The copy that is compressed once more: all images, on other blocks."""

import sys
from pathlib import Path

import numpy as np
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
