"""The embedded set: the same everywhere, balanced, and of the shapes that its names say."""

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


def test_default_set_is_the_same_to_the_byte_everywhere(default_set) -> None:
    digest = hashlib.sha256()
    for array in default_set:
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == SHA256


def test_classes_are_balanced_and_shuffled_in_arrays_of_the_usual_kind(default_set) -> None:
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES) == 10
    for images, labels, size in ((*default_set[:2], 10_000), (*default_set[2:], 2_000)):
        assert (images.shape, images.dtype) == ((size, 3, 32, 32), np.uint8)
        assert (labels.shape, labels.dtype) == ((size,), np.int64)
        assert images.flags.c_contiguous
        assert np.bincount(labels).tolist() == [size // 10] * 10
        assert set(labels[:100]) == set(range(10))


def test_images_depend_on_the_seed_and_the_test_set_on_no_size() -> None:
    first, again, other, longer = (
        generate(*given) for given in ((3, 50, 20), (3, 50, 20), (1, 50, 20), (3, 70, 20))
    )
    for place in range(4):
        assert np.array_equal(first[place], again[place])
        assert not np.array_equal(first[place], other[place])
        assert place < 2 or np.array_equal(first[place], longer[place])


@pytest.mark.parametrize("size", [10, 300, None])
def test_no_image_appears_twice(size: int | None, default_set) -> None:
    # Splits of equal size, so that sharing one random stream would show.
    train, _, test, _ = generate(0, size, size) if size else default_set
    assert len({image.tobytes() for image in (*train, *test)}) == len(train) + len(test)


def test_mean_colour_does_not_give_the_class_away(default_set) -> None:
    train, labels, test, targets = default_set
    colours = np.stack([train[labels == c].mean(axis=(0, 2, 3)) for c in range(10)])
    distances = np.abs(test.mean(axis=(2, 3))[:, None] - colours).sum(axis=2)
    assert (distances.argmin(axis=1) == targets).mean() < 0.25


def test_images_show_what_the_name_of_their_class_says(default_set) -> None:
    middle, near = slice(14, 18), slice(7, 11)
    centre, edge, corner = (
        {name: brightness(default_set, name, *place) for name in CLASS_NAMES}
        for place in ((middle, middle), (near, middle), (near, near))
    )
    bounds = {"ring": (0, 15), "frame": (0, 15), "stripes": (20, 40), "checkers": (20, 40)}
    for name, value in centre.items():  # empty, half filled or filled
        low, high = bounds.get(name, (45, 65))
        assert low < value < high, name
    assert corner["square"] > corner["disc"] > corner["diamond"]
    assert corner["frame"] > corner["ring"]
    assert edge["plus"] > 2 * corner["plus"]
    assert edge["cross"] < 1.5 * corner["cross"]
    upper, lower = ((slice(*rows), slice(10, 22)) for rows in ((6, 12), (20, 26)))
    above, below = (brightness(default_set, "triangle", *place) for place in (upper, lower))
    assert below > above


@pytest.mark.parametrize("size", [0, -10, 15])
@pytest.mark.parametrize("name", ["train_size", "test_size"])
def test_size_that_cannot_be_balanced_and_negative_seed_are_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {size}; expected a positive multiple of 10"):
        generate(**{name: size})
    with pytest.raises(ValueError, match="seed is -1; expected 0 or more"):
        generate(seed=-1)
