import hashlib

import numpy as np
import pytest

from cifar_lab.data.synthetic import CLASS_NAMES, generate

# Of the default set: images and labels of both splits, labels as little-endian int64. A change
# here is another data set: measure the accuracies in the module's docstring again.
SHA256 = "b6c8d713369f718d58ae8de0490c105aaba75a1c94f87512b0065f1a9c6a65f9"

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def default_set() -> Split:
    return generate()


def brightness(default_set: Split, name: str, rows: slice, columns: slice) -> float:
    """How much brighter than their background the images of a class are there, on average."""
    images, labels = default_set[:2]
    mean_image = images[labels == CLASS_NAMES.index(name)].mean(axis=(0, 1))
    return float(mean_image[rows, columns].mean() - mean_image[:2].mean())


def test_default_set_is_the_same_to_the_byte_everywhere(default_set: Split) -> None:
    digest = hashlib.sha256()
    for array in default_set:
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == SHA256


def test_shapes_dtypes_and_layout(default_set: Split) -> None:
    for images, labels, size in ((*default_set[:2], 10_000), (*default_set[2:], 2_000)):
        assert images.shape == (size, 3, 32, 32)
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
        assert labels.shape == (size,)
        assert labels.dtype == np.int64


def test_classes_are_balanced_and_shuffled(default_set: Split) -> None:
    for labels in default_set[1::2]:
        assert np.bincount(labels).tolist() == [len(labels) // 10] * 10
        assert set(labels[:100]) == set(range(10))


def test_ten_different_class_names() -> None:
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES) == 10


def test_same_seed_gives_same_bytes() -> None:
    for first, second in zip(generate(3, 50, 20), generate(3, 50, 20), strict=True):
        np.testing.assert_array_equal(first, second)


def test_another_seed_gives_other_images_and_order() -> None:
    for first, second in zip(generate(0, 50, 20), generate(1, 50, 20), strict=True):
        assert not np.array_equal(first, second)


def test_test_set_does_not_depend_on_train_size() -> None:
    for short, long in zip(generate(0, 10, 50)[2:], generate(0, 70, 50)[2:], strict=True):
        np.testing.assert_array_equal(short, long)


@pytest.mark.parametrize("size", [10, 300])
def test_no_image_appears_twice(size: int) -> None:
    # Splits of equal size, so that sharing one random stream would show.
    train, _, test, _ = generate(0, size, size)
    assert len({image.tobytes() for image in (*train, *test)}) == 2 * size


def test_no_image_of_the_default_set_appears_twice(default_set: Split) -> None:
    train, _, test, _ = default_set
    assert len({image.tobytes() for image in (*train, *test)}) == len(train) + len(test)


def test_mean_colour_does_not_give_the_class_away(default_set: Split) -> None:
    train, labels, test, targets = default_set
    colours = np.stack([train[labels == c].mean(axis=(0, 2, 3)) for c in range(10)])
    distances = np.abs(test.mean(axis=(2, 3))[:, None] - colours).sum(axis=2)
    assert (distances.argmin(axis=1) == targets).mean() < 0.25


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0, 15, ["ring", "frame"]),
        (20, 40, ["stripes", "checkers"]),
        (45, 65, ["disc", "square", "diamond", "triangle", "plus", "cross"]),
    ],
)
def test_centre_is_empty_half_filled_or_filled_as_the_name_says(
    default_set: Split, low: int, high: int, names: list[str]
) -> None:
    middle = slice(14, 18)
    for name in names:
        assert low < brightness(default_set, name, middle, middle) < high, name


def test_outline_is_what_the_name_says(default_set: Split) -> None:
    middle, near, far, wide = slice(14, 18), slice(7, 11), slice(20, 26), slice(10, 22)
    edge = {name: brightness(default_set, name, near, middle) for name in CLASS_NAMES}
    corner = {name: brightness(default_set, name, near, near) for name in CLASS_NAMES}
    assert corner["square"] > corner["disc"] > corner["diamond"]
    assert corner["frame"] > corner["ring"]
    assert edge["plus"] > 2 * corner["plus"]
    assert edge["cross"] < 1.5 * corner["cross"]
    above = brightness(default_set, "triangle", slice(6, 12), wide)
    assert brightness(default_set, "triangle", far, wide) > above


@pytest.mark.parametrize("size", [0, -10, 15])
@pytest.mark.parametrize("name", ["train_size", "test_size"])
def test_size_that_cannot_be_balanced_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {size}; expected a positive multiple of 10"):
        generate(**{name: size})


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed is -1; expected 0 or more"):
        generate(seed=-1)
