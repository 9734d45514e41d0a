"""Augmentation: what each function does to an image, and that it does it from its generator."""

import pytest
import torch
from torch.nn import functional as F

from cifar_lab.data import augment
from cifar_lab.errors import UserError


def _images(count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def _apply(name: str, images: torch.Tensor, seed: int = 1) -> torch.Tensor:
    return augment.AUGMENTATIONS[name](images, _draw(seed, len(images)))


def _draw(seed: int, count: int = 64, epoch: int = 0) -> augment.Draw:
    generator = torch.Generator().manual_seed(seed)
    return augment.Draw(generator, torch.arange(count), epoch, seed)


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_keeps_shape_and_dtype_and_depends_on_the_generator_alone(name: str) -> None:
    images = _images()
    first, again, other = (_apply(name, images, seed) for seed in (1, 1, 2))
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, _images())  # the input is left alone


def _assert_half_is_mirrored(found: torch.Tensor, images: torch.Tensor) -> None:
    mirrored = (found == images.flip(-1)).flatten(1).all(1)
    kept = (found == images).flatten(1).all(1)
    assert torch.all(mirrored ^ kept)
    assert 150 < mirrored.sum() < 250


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_rest() -> None:
    images = _images(400)
    _assert_half_is_mirrored(_apply("flip", images), images)


def test_crop_is_a_random_window_of_the_reflected_image() -> None:
    images = _images(400)
    padded = F.pad(images.float(), [4] * 4, mode="reflect").to(torch.uint8)
    places = set()
    for whole, moved in zip(padded, _apply("crop", images), strict=True):
        windows = whole.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)  # (9, 9, 3, …)
        (place,) = (windows == moved).flatten(2).all(2).nonzero().tolist()
        places.add(tuple(place))
    for offsets in zip(*places, strict=True):
        assert set(offsets) == set(range(9))  # every shift each way, the largest ones too


def test_cutout_covers_one_square_with_the_mean_colour() -> None:
    images = _images()
    covered = _apply("cutout", images)
    changed = (covered != images).any(1)
    assert changed.flatten(1).sum(1).max() <= augment.CUTOUT_SIZE**2
    assert changed.flatten(1).sum(1).min() >= (augment.CUTOUT_SIZE // 2) ** 2 * 0.9  # in a corner
    whole = 0
    for image, result, place in zip(images, covered, changed, strict=True):
        for side in (place.any(1).nonzero(), place.any(0).nonzero()):
            assert side.max() - side.min() < augment.CUTOUT_SIZE
        whole += bool(place.sum() == 64)  # at an edge a part of it is covered
        mean = image.float().mean((1, 2)).to(torch.uint8)
        assert torch.all(result[:, place] == mean[:, None])
    assert whole > len(images) / 3


def test_compose_applies_in_order_and_names_what_it_does_not_know() -> None:
    images, draw, same = _images(), _draw(3), _draw(3)
    both = augment.compose(["flip", "crop"])
    assert torch.equal(both(images, draw), augment.crop(augment.flip(images, same), same))
    assert augment.compose([]) is None
    with pytest.raises(UserError, match=r"'blur'.*flip, alternating_flip, crop, cutout"):
        augment.compose(["flip", "blur"])


def test_crop_padding_is_the_largest_shift() -> None:
    images = _images()
    still, moved = (augment.compose(["crop"], padding)(images, _draw(1)) for padding in (0, 1))
    assert torch.equal(still, images)
    assert torch.equal(moved, augment.crop(images, _draw(1), padding=1))
    for padding in (-1, 32):
        with pytest.raises(UserError, match=f"crop_padding {padding}: expected 0 to 31"):
            augment.compose(["crop"], padding)


def test_alternating_flip_shows_both_sides_in_any_two_epochs() -> None:
    images = _images(400)
    draws = (_draw(1, 400, epoch) for epoch in range(3))
    first, second, third = (augment.alternating_flip(images, draw) for draw in draws)
    _assert_half_is_mirrored(first, images)
    assert torch.equal(second, first.flip(-1))
    assert torch.equal(third, first)


def test_alternating_flip_goes_by_the_image_and_the_seed() -> None:
    images = torch.arange(32, dtype=torch.uint8).expand(1000, 3, 32, 32)

    def mirrored(seed: int, indices: torch.Tensor) -> torch.Tensor:
        draw = augment.Draw(torch.Generator(), indices, 0, seed)
        return augment.alternating_flip(images, draw)[:, 0, 0, 0] == 31

    indices = torch.arange(1000)
    here, there = mirrored(0, indices), mirrored(2**32 - 1, indices)
    assert torch.equal(mirrored(0, indices.flip(0)), here.flip(0))
    assert 400 < (here != there).sum() < 600
    assert 400 < (here[1:] != here[:-1]).sum() < 600  # neighbours are unrelated
