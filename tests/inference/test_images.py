"""Images of every size, mode and format become uint8 (3, 32, 32); what is wrong is one line."""

import errno
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose

from cifar_lab.errors import UserError
from cifar_lab.inference import images
from cifar_lab.inference.images import find_images, formats, printable, read_image

RED, GREEN, BLUE, WHITE, BLACK = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0))


def _quarters() -> Image.Image:
    """32×32, another colour in each corner, so that every turn and flip is another picture."""
    image = Image.new("RGB", (32, 32), WHITE)
    for corner, colour in zip(((0, 0), (16, 0), (0, 16)), (RED, GREEN, BLUE), strict=True):
        image.paste(colour, (*corner, corner[0] + 16, corner[1] + 16))
    return image


def _noise(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


def _saved(image: Image.Image, name: str, **options: object) -> Path:
    image.save(name, **options)
    return Path(name)


def _colours(path: Path) -> list[tuple[int, ...]]:
    """The colours of the four corners, row by row."""
    pixels = read_image(path)
    return [tuple(pixels[:, y, x].tolist()) for y in (0, 31) for x in (0, 31)]


def test_an_rgb_image_of_the_right_size_is_untouched() -> None:
    pixels = _noise(32, 32, 3)
    read = read_image(_saved(Image.fromarray(pixels), "x.png"))
    assert (read.shape, read.dtype) == ((3, 32, 32), np.uint8)
    assert np.array_equal(read, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(3000, 10), (10, 3000), (1, 1)])
def test_a_strip_is_cropped_to_its_middle(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, RED)
    x, y = size[0] // 2, size[1] // 2
    image.paste(BLUE, (x - 5, y - 5, x + 5, y + 5))
    read = read_image(_saved(image, "x.png"))
    assert (read == np.array(BLUE)[:, None, None]).all()


def test_shrinking_takes_every_pixel_into_account() -> None:
    """Without antialiasing a fine checkerboard would come out black or white."""
    board = (np.indices((320, 320)).sum(0) % 2 * 255).astype(np.uint8)
    read = read_image(_saved(Image.fromarray(board), "x.png"))
    assert (abs(read.astype(int) - 127) <= 2).all()


def test_a_larger_picture_keeps_its_parts_in_their_places() -> None:
    path = _saved(_quarters().resize((64, 64), Image.Resampling.NEAREST), "x.png")
    assert _colours(path) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("name", ["x.png", "x.gif", "x.bmp", "x.tiff", "x.webp", "x.ppm", "x.tga"])
def test_formats(name: str) -> None:
    options = {"lossless": True} if name == "x.webp" else {}
    path = _saved(_quarters(), name, **options)
    assert _colours(path) == [RED, GREEN, BLUE, WHITE]
    if name != "x.tga":  # which has no signature
        assert _colours(path.rename("x.jpg")) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    ("mode", "name", "expected", "atol"),
    [
        ("1", "x.png", [BLACK, WHITE, BLACK, WHITE], 0),
        ("L", "x.png", [(76,) * 3, (150,) * 3, (29,) * 3, WHITE], 0),
        ("P", "x.png", [RED, GREEN, BLUE, WHITE], 0),
        ("CMYK", "x.tiff", [RED, GREEN, BLUE, WHITE], 0),
        ("CMYK", "x.jpg", [RED, GREEN, BLUE, WHITE], 4),
        ("YCbCr", "x.tiff", [RED, GREEN, BLUE, WHITE], 1),
        ("RGBA", "x.png", [RED, GREEN, BLUE, WHITE], 0),
        ("LA", "x.png", [(76,) * 3, (150,) * 3, (29,) * 3, WHITE], 0),
    ],
)
def test_modes(mode: str, name: str, expected: list[tuple[int, ...]], atol: int) -> None:
    image = _quarters().convert(mode, dither=Image.Dither.NONE)
    path = _saved(image, name, **({"quality": 100, "subsampling": 0} if name == "x.jpg" else {}))
    with Image.open(path) as image:
        if mode == "YCbCr" and image.mode == "RGB":
            pytest.skip("this Pillow has converted it already")
        assert image.mode == mode
    np.testing.assert_allclose(_colours(path), expected, atol=atol)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white_and_half_transparent_ones_half(mode: str) -> None:
    alpha = Image.new("L", (32, 32), 255)
    alpha.paste(0, (0, 0, 16, 16))
    alpha.paste(128, (16, 0, 32, 16))
    image = Image.new("RGBA", (32, 32), BLACK)
    image.putalpha(alpha)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    assert image.mode == mode
    assert _colours(_saved(image, "x.png")) == [WHITE, (127,) * 3, BLACK, BLACK]


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = _quarters().quantize(4)
    with Image.open(_saved(image, "x.gif", transparency=image.getpixel((0, 0)))) as saved:
        assert saved.mode == "P"
    assert _colours(Path("x.gif")) == [WHITE, GREEN, BLUE, WHITE]


def test_colour_under_transparent_parts_does_not_bleed_into_the_resized_image() -> None:
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    pixels[:, :33] = (255, 0, 0, 0)  # red, but nothing to be seen of it
    pixels[:, 33:] = (0, 0, 255, 255)
    red, green, blue = read_image(_saved(Image.fromarray(pixels), "x.png"))
    assert np.array_equal(red, green)
    assert (blue == 255).all()


RAMP = np.arange(1024).reshape(32, 32)


@pytest.mark.parametrize(
    ("values", "name", "mode", "expected"),
    [
        ((RAMP * 64).astype(np.uint16), "x.png", "I", (RAMP * 64 / 257).round()),
        ((RAMP // 4 - 7).astype(np.int32), "x.tiff", "I", RAMP // 4),
        ((RAMP / 1023 * 5 - 2).astype(np.float32), "x.tiff", "F", (RAMP / 1023 * 255).round()),
        (np.full((32, 32), 7, np.float32), "x.tiff", "F", 0),
    ],
    ids=["16 bits", "32 bits", "floating point", "one value"],
)
def test_grey_of_more_than_eight_bits_is_scaled(values, name: str, mode: str, expected) -> None:
    path = _saved(Image.fromarray(values), name)
    with Image.open(path) as image:
        assert image.mode.startswith(mode)
    read = read_image(path)
    assert (read.shape, read.dtype) == ((3, 32, 32), np.uint8)
    assert (read == expected).all()


def test_grey_that_is_not_finite_is_refused() -> None:
    path = _saved(Image.fromarray(np.where(RAMP == 99, np.nan, RAMP).astype(np.float32)), "x.tiff")
    with pytest.raises(UserError, match="not finite"):
        read_image(path)


def test_a_transparent_grey_of_sixteen_bits_is_white() -> None:
    values = np.full((32, 32), 5000, dtype=np.uint16)
    values[:, 16:] = 0
    try:
        path = _saved(Image.fromarray(values), "x.png", transparency=0)
    except OSError:
        pytest.skip("this Pillow cannot write it")
    read = read_image(path)
    assert (read[:, :, 16:] == 255).all()
    assert (read[:, :, :16] == round(5000 / 257)).all()


# The inverses of what a camera does, from orientation 1 on.
TURNS = (None, Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM)
TURNS += (Transpose.TRANSPOSE, Transpose.ROTATE_90, Transpose.TRANSVERSE, Transpose.ROTATE_270)


@pytest.mark.parametrize(("orientation", "turn"), [*enumerate(TURNS, 1)])
def test_exif_orientation_is_undone(orientation: int, turn: Transpose | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = _quarters() if turn is None else _quarters().transpose(turn)
    assert _colours(_saved(image, "x.png", exif=exif)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("x.jpg", {"quality": 100}), ("x.jpg", {"quality": 100, "dpi": (72, 72)}), ("x.png", {})],
)
def test_broken_exif_is_passed_over_silently(exif: bytes, name: str, options, capsys) -> None:
    path = _saved(Image.new("RGB", (32, 32), BLUE), name, exif=exif, **options)
    assert abs(read_image(path)[2].astype(int) - 255).max() <= 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.tiff", "x.png"])
def test_of_several_frames_the_first_is_taken(name: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (GREEN, RED, BLUE)]
    options = {"lossless": True} if name == "x.webp" else {}
    path = _saved(frames[0], name, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert image.n_frames == 3
    assert _colours(path) == [GREEN] * 4


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.gif", "x.bmp", "x.webp", "x.tiff"])
def test_truncated_files(name: str) -> None:
    path = _saved(Image.fromarray(_noise(64, 64, 3)), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"^{name}: (cannot be read \(.+\)|not an image)"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF\n"])
def test_files_that_are_no_images(content: bytes) -> None:
    Path("x.png").write_bytes(content)
    with pytest.raises(UserError, match=r"^x\.png: [^\n]+$"):
        read_image("x.png")


def test_postscript_is_never_given_to_another_program(monkeypatch) -> None:
    path = _saved(_quarters(), "x.eps")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)  # fails when called
    with pytest.raises(UserError, match="not an image that Pillow reads"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.png", "no such file"),
        ("empty", "no images in this folder"),
        ("pipe.png", "not a file"),
        ("x" * 300, r"cannot be read \(.+\)"),
    ],
)
def test_what_is_no_file_stands_for_itself_and_is_named(name: str, said: str) -> None:
    Path("empty/.hidden").mkdir(parents=True)
    os.mkfifo("pipe.png")
    assert find_images([name]) == [Path(name)]
    with pytest.raises(UserError, match=rf"^{name}: {said}$"):
        read_image(name)


def _png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


@pytest.mark.parametrize("size", [(8193, 8192), (10_000, 9_500), (60_000, 60_000)])
def test_an_image_with_too_many_pixels_is_not_decoded(size: tuple[int, int], monkeypatch) -> None:
    """Of the three, Pillow says nothing, warns, and raises."""
    Path("x.png").write_bytes(_png_header(*size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)  # fails when called
    with pytest.raises(UserError, match=r"^x\.png: .*more than 67,108,864.*; make it smaller$"):
        read_image("x.png")


def test_the_largest_image_that_is_decoded(monkeypatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 32)
    read_image(_saved(Image.new("RGB", (64, 32)), "x.png"))
    with pytest.raises(UserError, match="65×32 pixels, more than 2,048"):
        read_image(_saved(Image.new("RGB", (65, 32)), "x.png"))


def test_filters_of_warnings_are_left_as_they_were() -> None:
    before = warnings.filters[:]
    read_image(_saved(_quarters(), "x.png"))
    assert warnings.filters == before


def test_folders_are_searched_to_any_depth_in_order() -> None:
    names = ["b/2.PNG", "b/10.png", "a/z/1.jpeg", "a/1.webp", "c.gif"]
    others = ["a/notes.txt", "a/x.npy", "b/.hidden.png", ".git/x.png", "b/video.mpg", "b/x.eps"]
    for name in names + others:
        path = Path("root", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    expected = ["a/1.webp", "a/z/1.jpeg", "b/10.png", "b/2.PNG", "c.gif"]
    assert find_images(["root"]) == [Path("root", name) for name in expected]
    found = find_images(["root/c.gif", "none.png", "root/a/z", "root/a/notes.txt"])
    names = ["root/c.gif", "none.png", "root/a/z/1.jpeg", "root/a/notes.txt"]
    assert found == [Path(name) for name in names]


def test_the_formats_are_those_of_pillow_that_decode_by_themselves() -> None:
    assert {"JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"} < set(formats())
    assert not {"EPS", "MPEG", "HDF5", "ICO", "ICNS"} & set(formats())


def test_odd_names_stay_on_one_line() -> None:
    assert printable("a b/ü.png") == "a b/ü.png"
    assert printable("a\nb.png") == r"'a\nb.png'"
    assert printable(os.fsdecode(b"\xff.png")) == r"'\udcff.png'"


def test_a_folder_that_may_not_be_read_is_named(monkeypatch) -> None:
    for folder in ("photos/open", "photos/private"):
        Path(folder).mkdir(parents=True)
        _saved(_quarters(), f"{folder}/x.png")
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "private":  # as for anybody but root
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = [str(path) for path in find_images(["photos"])]
    assert found == ["photos/open/x.png", "photos/private"]
