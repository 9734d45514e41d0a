"""CIFAR10DataModule: splits, protocols, and what a Trainer gets from it."""

import pickle
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY, Mock

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.trainer.states import TrainerStatus

from cifar_lab import CIFAR10DataModule
from cifar_lab.data import sources
from cifar_lab.data.download import DownloadError
from cifar_lab.data.statistics import CIFAR10_MEAN, CIFAR10_STD
from cifar_lab.errors import UserError


def _data(root: Path, **options) -> CIFAR10DataModule:
    data = CIFAR10DataModule(root, **{"batch_size": 10, **options})
    data.prepare_data()
    data.setup()
    return data


def test_a_constructor_reads_and_downloads_nothing(monkeypatch) -> None:
    for name in ("find", "download_archive"):
        monkeypatch.setattr(sources, name, None)  # fails when called
    data = CIFAR10DataModule("nowhere")
    for early in (data.train_dataloader, data.test_dataloader, lambda: data.sizes):
        with pytest.raises(RuntimeError, match=r"before setup\(\): call prepare_data\(\) and"):
            early()
    with pytest.raises(UserError, match="source 'cifar-10': expected one of auto, cifar10"):
        CIFAR10DataModule(source="cifar-10")


def test_the_number_of_classes_is_known_before_setup(tree, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "download_archive", None)  # fails when called
    (tmp_path / "empty").mkdir()
    assert CIFAR10DataModule(tmp_path / "empty").num_classes == 10
    assert CIFAR10DataModule(source="synthetic").num_classes == 10
    assert CIFAR10DataModule(tree, batch_size=10).num_classes == 3


def test_it_downloads_from_the_mirrors_that_it_was_told(tmp_path, monkeypatch) -> None:
    download = Mock(side_effect=DownloadError("no network"))
    monkeypatch.setattr(sources, "download_archive", download)
    for mirror in ([], ["http://a.test/x"], ["http://a.test/x", "http://b.test/x"]):
        with pytest.raises(DownloadError):
            CIFAR10DataModule(tmp_path, source="cifar10", mirror=mirror).prepare_data()
        download.assert_called_with(tmp_path, mirror, ANY)


def test_batches_are_raw_and_splits_do_not_overlap(tree) -> None:
    data = _data(tree)
    images, labels = next(iter(data.train_dataloader()))
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (10, 3, 32, 32))
    assert (labels.dtype, tuple(labels.shape)) == (torch.int64, (10,))
    assert data.sizes == {"train": 108, "val": 12, "test": 45}
    assert len(_labels(data.val_dataloader())) == 12
    assert len(_labels(data.test_dataloader())) == 45
    assert not set(data.train_indices) & set(data.val_indices)


def _labels(loader) -> list[int]:
    return torch.cat([labels for _, labels in loader]).tolist()


@pytest.mark.parametrize(("limit", "classes"), [(1.0, [0]), (1, [0, 1, 2]), (0.5, [0, 1, 2])])
def test_a_part_of_an_evaluation_is_of_all_classes(tree, limit: float, classes: list[int]) -> None:
    data = _data(tree, eval_batch_size=15)  # the files of a class
    data.trainer = Trainer(accelerator="cpu", limit_test_batches=limit, logger=False)
    labels = next(iter(data.test_dataloader()))[1]
    assert labels.unique().tolist() == classes
    data.trainer.state.status = TrainerStatus.FINISHED
    assert next(iter(data.test_dataloader()))[1].unique().tolist() == [0]  # alone again


def test_val_size_0_trains_on_all_and_validates_on_the_test_set(tree) -> None:
    data = _data(tree, val_size=0)
    assert data.evaluates_on_test
    assert data.sizes["train"] == 120
    (ours, _), (test, _) = (next(iter(x)) for x in (data.val_dataloader(), data.test_dataloader()))
    assert len(test) == 45
    assert torch.equal(ours, test)


def test_images_are_held_once_as_uint8(tree) -> None:
    data = _data(tree)
    train, val = data.train_dataloader(), data.val_dataloader()
    images = train.dataset.images
    assert images.data_ptr() == val.dataset.images.data_ptr()
    assert images.data_ptr() == data.image_set.train_images.ctypes.data
    assert images.dtype == torch.uint8


def test_the_seed_changes_the_batches_and_leaves_the_split(tree) -> None:
    first, second = _data(tree, seed=1), _data(tree, seed=2)
    assert np.array_equal(first.val_indices, second.val_indices)
    assert _labels(first.train_dataloader()) != _labels(second.train_dataloader())


def test_mean_image_statistics_come_from_the_training_split(tree) -> None:
    data = _data(tree)
    mean, std = data.statistics("mean_image")
    expected = data.image_set.train_images[data.train_indices].mean(0, dtype=np.float64)
    torch.testing.assert_close(mean.double(), torch.from_numpy(expected), rtol=1e-6, atol=0)
    assert torch.all(std == 1)


def test_standardize_uses_the_published_values_for_cifar10(write_original) -> None:
    mean, std = _data(write_original(), batch_size=5).statistics("standardize")
    torch.testing.assert_close(mean.ravel() / 255, torch.tensor(CIFAR10_MEAN))
    torch.testing.assert_close(std.ravel() / 255, torch.tensor(CIFAR10_STD))


def test_normalize_gives_standardised_floats_to_foreign_models(tree) -> None:
    data = _data(tree, normalize=True)
    images = torch.cat([images for images, _ in data.train_dataloader()])
    assert images.dtype == data.test_dataloader().dataset[0][0].dtype == torch.float32
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)


def test_a_copy_of_another_process_gives_the_same_batches(tree) -> None:
    data = _data(tree, augment=["flip", "crop"], normalize=True)
    loader = data.train_dataloader()
    copies = pickle.loads(pickle.dumps((data, loader)))
    for copied in (copies[0].train_dataloader(), copies[1]):
        for found, expected in zip(copied, data.train_dataloader(), strict=True):
            assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0: expected a positive"),
        ({"batch_size": 109}, "batch_size 109: larger than the 108 training images"),
        ({"eval_batch_size": -1}, "eval_batch_size -1"),
        ({"val_size": 120}, "val_size 120: expected 0 to 119"),
        ({"augment": ["blur"]}, "augment 'blur'"),
        ({"augment": ["crop"], "crop_padding": 32}, "crop_padding 32: expected 0 to 31"),
        ({"augment": "flip"}, r"augment 'flip': expected a list, such as \['flip'\]"),
        ({"mirror": "http://host/a.tar.gz"}, "mirror 'http://host/a.tar.gz': expected a list"),
        ({"seed": -1}, "seed -1: expected an integer of at least 0"),
    ],
)
def test_values_out_of_range_are_refused(tree, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _data(tree, **options)


def test_real_data_are_read_whole(real_data: str) -> None:
    data = _data(Path(real_data), val_size=None, eval_batch_size=333)
    assert data.sizes == {"train": 45_000, "val": 5_000, "test": 10_000}
    assert len(_labels(data.test_dataloader())) == 10_000
    assert np.bincount(data.image_set.train_labels[data.val_indices]).tolist() == [500] * 10


@pytest.mark.parametrize("same", [True, False])
def test_processes_with_different_images_are_refused(same: bool, tree) -> None:
    data = CIFAR10DataModule(tree, batch_size=20, val_size=0)
    data.setup()
    first = data.image_set.fingerprint if same else "another"
    strategy = SimpleNamespace(broadcast=lambda own: first)
    strategy.reduce_boolean_decision = lambda wish, all: wish and all
    state = SimpleNamespace(stopped=False)
    data.trainer = SimpleNamespace(world_size=2, strategy=strategy, state=state)
    refused = pytest.raises(UserError, match="the processes found different images")
    with nullcontext() if same else refused:
        data.setup("fit")
